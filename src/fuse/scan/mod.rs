//! Scanners: programs that look into every file of a directory, though nobody has asked for the files' contents.
//!
//! A file manager has previews made, a desktop is indexed, a media server looks for new films. On a local disk that costs
//! little. Here each of them would download what it reads, and evict what people use. So a table of program names
//! ([`scanners`]) has two classes, treated as [`ScanPolicy`] says:
//!
//! - **Thumbnailers and indexers** get so many bytes of a file, and EPERM beyond. They can do without: a file has no preview, or
//!   is indexed by its name. Nothing is ever shortened: a program would take that for a damaged file.
//! - **Media scanners and virus scanners** get everything. A film whose probe fails is dropped from the library, and a virus
//!   scanner that may not read a file has not scanned it.
//!
//! Both are without read-ahead, at a low priority, and evict nothing ([`crate::cache`]'s `handle::scan`).
//!
//! **Names are a courtesy, not security**: any program can have any name. A process is named once for each handle, at its first
//! read, by `/proc` ([`program`]). A process outside the mount's pid namespace has no name here, and is an ordinary one.

mod allowances;
mod program;
mod recent;
mod scanners;
mod settings;

use std::sync::Arc;

use allowances::Allowances;
use program::Program;
pub(super) use program::process_of;
use recent::Recent;
use scanners::Scanners;
pub(crate) use scanners::{Scanner, Treatment};
pub(crate) use settings::{ScanConfig, ScanPolicy, ScanSettings};

use url::Url;

use crate::cache::{ReadBy, Scan};
use crate::http::redact;
use crate::stats::{ProcessTable, ScanClass};
use crate::util::events;

/// The scanners of a mount.
pub(crate) struct Scans {
    settings: Arc<ScanSettings>,
    scanners: Scanners,
    allowances: Allowances,
    recent: Recent,
}

impl Scans {
    /// With the built-in table, changed as configured.
    pub(crate) fn new(config: &ScanConfig) -> Scans {
        let settings = Arc::new(ScanSettings::new(config));
        Scans {
            allowances: Allowances::new(settings.limit()),
            scanners: Scanners::with(&config.scanners),
            settings,
            recent: Recent::default(),
        }
    }

    /// What can change while mounted.
    pub(crate) fn settings(&self) -> &Arc<ScanSettings> {
        &self.settings
    }

    /// Returns true if a scanner's thread asks. Looks at `/proc`.
    pub(super) fn is_scanner(&self, thread: u32) -> bool {
        self.settings.policy() != ScanPolicy::Off
            && self
                .recent
                .roughly(thread)
                .is_some_and(|program| self.class_of(&program).is_some())
    }

    /// The program that a thread belongs to, which is about to read from the file with this inode number; `None` if it is
    /// unknown. Looks at `/proc`.
    pub(super) fn read_by(&self, thread: u32, ino: u64, programs: &ProcessTable) -> Option<ReadBy> {
        let program = self.recent.exactly(thread)?;
        let class = self.class_of(&program);
        let traffic = programs.row(program.shown_name(), class);
        let scan = class.map(|class| Scan {
            allowance: (class == ScanClass::Limited).then(|| self.allowances.of(ino, &traffic.name)),
        });
        Some(ReadBy { traffic, scan })
    }

    /// A read of this program was refused, and counted. The log has the first one of each program.
    pub(super) fn log_refusal(by: &ReadBy, url: &Url) {
        if by.traffic.refused_reads.get() == 1 {
            log::info!(
                event = events::SCAN_LIMITED;
                "{} gets no more than --scan-limit of a file, and EPERM beyond (--scan-policy); first: {}",
                by.traffic.name, redact(url)
            );
        }
    }

    fn class_of(&self, program: &Program) -> Option<ScanClass> {
        let class = || program.names().find_map(|name| self.scanners.class_of(name));
        match self.settings.policy() {
            ScanPolicy::Off => None,
            ScanPolicy::Gentle => class().map(|_| ScanClass::Gentle),
            ScanPolicy::Limit => class(),
        }
    }
}
