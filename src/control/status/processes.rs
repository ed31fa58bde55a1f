//! The programs that have read through a mount: bytes read, bytes fetched for them, and how they are treated.

use serde::{Deserialize, Serialize};

use crate::cache::OpenReaders;
use crate::stats::{MountStats, ScanClass};

/// Most programs in a status; the others are summed.
const MOST: usize = 16;

/// The ways in which programs are treated.
pub(crate) const CLASSES: [Option<ScanClass>; 3] = [None, Some(ScanClass::Limited), Some(ScanClass::Gentle)];

/// The traffic of one program, whose processes all count together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramTraffic {
    /// Its name; `None` for the sum of those of a class that are not listed.
    pub name: Option<String>,
    /// Bytes that it has read, without those that the kernel has read by itself.
    pub read_bytes: u64,
    /// Bytes that servers have sent for its reads, with what was read ahead of it.
    pub fetched_bytes: u64,
    /// How it is treated as a scanner; `None` for an ordinary program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanner: Option<ScanClass>,
    /// Reads that were refused because of `--scan-limit`.
    #[serde(default)]
    pub refused_reads: u64,
}

impl ProgramTraffic {
    /// All programs so far, those with most bytes from servers first.
    pub(super) fn all(stats: &MountStats, readers: &OpenReaders) -> Vec<ProgramTraffic> {
        let programs = stats.processes.rows();
        let read = readers.bytes_of(&programs);
        let traffic = programs.iter().zip(read).map(|(program, read_bytes)| ProgramTraffic {
            name: Some(program.name.to_string()),
            read_bytes,
            fetched_bytes: program.fetched_bytes.get(),
            scanner: program.class,
            refused_reads: program.refused_reads.get(),
        });
        shortened(traffic.collect())
    }

    /// The sum of programs of a class.
    pub(crate) fn sum<'a>(
        class: Option<ScanClass>,
        programs: impl Iterator<Item = &'a ProgramTraffic>,
    ) -> ProgramTraffic {
        let mut sum = ProgramTraffic {
            name: None,
            read_bytes: 0,
            fetched_bytes: 0,
            scanner: class,
            refused_reads: 0,
        };
        for program in programs {
            sum.read_bytes += program.read_bytes;
            sum.fetched_bytes += program.fetched_bytes;
            sum.refused_reads += program.refused_reads;
        }
        sum
    }
}

fn shortened(mut all: Vec<ProgramTraffic>) -> Vec<ProgramTraffic> {
    all.sort_by(|one, other| {
        let key = |program: &ProgramTraffic| (program.fetched_bytes, program.read_bytes);
        key(other).cmp(&key(one)).then_with(|| one.name.cmp(&other.name))
    });
    let rest = all.split_off(all.len().min(MOST));
    for class in CLASSES {
        let rest = || rest.iter().filter(|program| program.scanner == class);
        if rest().next().is_some() {
            all.push(ProgramTraffic::sum(class, rest()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_beyond_the_list_are_summed() {
        let program = |number: u64| ProgramTraffic {
            name: Some(format!("p{number}")),
            read_bytes: 1,
            fetched_bytes: number,
            scanner: (number == 0).then_some(ScanClass::Limited),
            refused_reads: 2,
        };
        let all = shortened((0..20).map(program).collect());
        assert_eq!(all.len(), MOST + 2, "two classes");
        assert_eq!((all[0].name.as_deref(), all[0].fetched_bytes), (Some("p19"), 19));
        let rest = &all[MOST];
        assert_eq!(
            (rest.name.as_deref(), rest.read_bytes, rest.fetched_bytes),
            (None, 3, 3 + 2 + 1)
        );
        assert_eq!((rest.scanner, rest.refused_reads), (None, 6));
        let limited = &all[MOST + 1];
        assert_eq!((limited.scanner, limited.refused_reads), (Some(ScanClass::Limited), 2));
        assert_eq!(shortened(vec![program(1)]), [program(1)]);
    }
}
