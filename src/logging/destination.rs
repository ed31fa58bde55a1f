//! Where the log goes, and the file that it may be.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::journal;
use crate::config::{MountConfig, log_dir};
use crate::util::events;

/// The socket of syslog(3).
const SYSTEM_LOG: &str = "/dev/log";

/// Set by systemd if standard error is the journal.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// A file in the state directory that is larger when a mount begins is kept as the one before, and a new one begins: half a
/// million lines at most are kept.
const LARGEST_OLD: u64 = 32 << 20;

/// Where the log of a process goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// The file of `--log-file`.
    File(PathBuf),
    /// A file in the state directory, because the machine has no system log.
    StateFile(PathBuf),
    /// The journal, by its own protocol.
    Journal,
    /// syslog(3).
    SystemLog,
    /// Standard error, in the foreground.
    StandardError,
}

impl Destination {
    /// The destination for a mount, on this machine.
    pub(super) fn of(config: &MountConfig) -> Destination {
        let has_journal = journal::is_there();
        let is_in_journal = config.foreground && std::env::var_os(JOURNAL_VARIABLE).is_some();
        match &config.log_file {
            Some(path) => Destination::File(path.clone()),
            None if is_in_journal && has_journal => Destination::Journal,
            None if config.foreground => Destination::StandardError,
            None if has_journal => Destination::Journal,
            None if Path::new(SYSTEM_LOG).exists() => Destination::SystemLog,
            // Without a place for it, syslog(3) loses the lines, as it would anyway.
            None => state_file(&config.mountpoint).map_or(Destination::SystemLog, Destination::StateFile),
        }
    }

    /// For people: where it is, and how it is shown.
    pub(super) fn shown(&self) -> String {
        match self {
            Destination::File(path) | Destination::StateFile(path) => path.display().to_string(),
            Destination::Journal => "the journal; `journalctl -t fetchfs` shows it".to_owned(),
            Destination::SystemLog if Path::new(SYSTEM_LOG).exists() => {
                "the system log; `journalctl -t fetchfs` shows it, or /var/log/syslog".to_owned()
            }
            Destination::SystemLog => "nowhere: this machine has no system log; --log-file names a file".to_owned(),
            Destination::StandardError => "standard error of its process".to_owned(),
        }
    }
}

/// The file for a mount without a system log: `mnt-pub.log` for `/mnt/pub`. `None` if it can't be written.
fn state_file(mountpoint: &Path) -> Option<PathBuf> {
    let dir = log_dir()?;
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    let path = dir.join(file_name(mountpoint));
    if fs::metadata(&path).is_ok_and(|found| found.len() > LARGEST_OLD) {
        // If it fails, the file grows on.
        let _ = fs::rename(&path, path.with_extension("log.old"));
    }
    append_to(&path).is_ok().then_some(path)
}

fn file_name(mountpoint: &Path) -> String {
    let text = mountpoint.to_string_lossy();
    format!("{}.log", text.trim_matches('/').replace('/', "-"))
}

/// A log file that can be opened anew.
pub(super) struct LogFile {
    /// Absolute, because the daemon changes its working directory.
    path: PathBuf,
    /// Locked for one line at a time.
    file: Mutex<File>,
}

/// The log file of this process, if it has one.
static FILE: OnceLock<LogFile> = OnceLock::new();

impl LogFile {
    /// Opens the log file of this process.
    pub(super) fn of_process(path: &Path) -> io::Result<&'static LogFile> {
        let path = std::path::absolute(path)?;
        let file = Mutex::new(append_to(&path)?);
        Ok(FILE.get_or_init(|| LogFile { path, file }))
    }
}

impl Write for &LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reopens the log file after it was renamed (logrotate(8)). No effect on other logs.
pub(crate) fn reopen() {
    let Some(log) = FILE.get() else { return };
    match append_to(&log.path) {
        Ok(file) => *log.file.lock() = file,
        Err(error) => log::warn!(
            event = events::LOG_REOPEN_FAILED;
            "can't reopen {}: {error}; logging continues to the old file",
            log.path.display()
        ),
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_file_is_named_after_the_mountpoint() {
        assert_eq!(file_name(Path::new("/mnt/pub")), "mnt-pub.log");
        assert_eq!(file_name(Path::new("/dev/fd/3")), "dev-fd-3.log");
    }
}
