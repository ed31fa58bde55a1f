//! The programs that read through a mount, for people.

use super::block::Block;
use crate::cli::support::output::{count, size};
use crate::control::status::ProgramTraffic;
use crate::stats::ScanClass;

/// Most programs that are shown; the others are counted.
const MOST: usize = 5;

/// Adds the programs, if any has read.
pub(super) fn add(block: &mut Block, programs: &[ProgramTraffic]) {
    for program in programs.iter().take(MOST) {
        block.add("programs", &of(program));
    }
    if programs.len() > MOST {
        block.add("programs", "and others (--json shows them)");
    }
}

fn of(program: &ProgramTraffic) -> String {
    let (read, fetched) = (size(program.read_bytes), size(program.fetched_bytes));
    let treated = match program.scanner {
        Some(ScanClass::Limited) => " (scanner, limited)",
        Some(ScanClass::Gentle) => " (scanner)",
        None => "",
    };
    let refused = match program.refused_reads {
        0 => String::new(),
        refused => format!("; {} refused", count(refused, "read")),
    };
    let name = program.name.as_deref().unwrap_or("others");
    format!("{name}{treated}: read {read}, fetched {fetched}{refused}")
}
