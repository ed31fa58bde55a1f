//! The metrics of the programs that read: by how they are treated, as programs choose their names themselves.
//! docs/monitoring.md has the table for users.

use std::fmt::Result;

use super::encode::{Metrics, Value};
use crate::control::status::{CLASSES, ProgramTraffic};
use crate::stats::ScanClass;

/// Writes them.
pub(super) fn encode(metrics: &mut Metrics<'_>, programs: &[ProgramTraffic]) -> Result {
    let sums = CLASSES.map(|class| {
        let of_class = programs.iter().filter(|program| program.scanner == class);
        (label(class), ProgramTraffic::sum(class, of_class))
    });
    let by = |class| [("class", Value(class))];
    metrics.counters(
        "fetchfs_program_read_bytes",
        "Bytes that programs have read: ordinary ones, scanners with a limit, scanners without one",
        sums.iter().map(|(class, sum)| (by(class), sum.read_bytes)),
    )?;
    metrics.counters(
        "fetchfs_program_fetched_bytes",
        "Bytes that servers have sent for these reads, with what was read ahead",
        sums.iter().map(|(class, sum)| (by(class), sum.fetched_bytes)),
    )?;
    metrics.counter(
        "fetchfs_scanner_refused_reads",
        "Reads of scanners that were refused because of --scan-limit",
        sums.iter().map(|(_, sum)| sum.refused_reads).sum(),
    )
}

fn label(class: Option<ScanClass>) -> &'static str {
    match class {
        None => "ordinary",
        Some(ScanClass::Limited) => "limited",
        Some(ScanClass::Gentle) => "gentle",
    }
}
