//! The log: its destination and its verbosity.
//!
//! - In the foreground the log goes to standard error.
//! - In the background it goes to the system log; until the mount is up, warnings also go to the terminal.
//! - `--log-file` replaces both.
//!
//! `-v` sets the verbosity; `FETCHFS_LOG` overrides it, in env_logger's syntax. All code logs through the `log` macros
//! and does not depend on this module. A line ends with the name of its event ([`crate::util::events`]). Repeated lines
//! are counted instead of written (`rate_limited`).

mod rate_limited;

use std::ffi::CString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use env_filter::Filter;
use env_logger::{Builder, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Mutex, RwLock};

use crate::config::MountConfig;
use crate::util::events::{self, Event};
use rate_limited::RateLimitedLog;

/// The variable that overrides `-v`.
const VARIABLE: &str = "FETCHFS_LOG";

/// systemd sets this variable if standard error is the journal, which adds the time itself.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The file can't be opened for appending.
    #[error("can't write the log file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The process has a logger already.
    #[error("the log is already open")]
    Twice(#[from] log::SetLoggerError),
}

/// Which lines are logged.
static FILTER: RwLock<Option<Filter>> = RwLock::new(None);

/// Logs more or less from now on, as with this number of `-v`, whatever [`VARIABLE`] says.
pub(crate) fn set_verbosity(verbosity: u8) {
    use_filter(filter(verbosity));
}

fn use_filter(text: &str) {
    let filter = env_filter::Builder::new().parse(text).build();
    let level = filter.filter();
    *FILTER.write() = Some(filter);
    log::set_max_level(level);
}

/// Passes the lines on that [`FILTER`] lets through.
struct Filtered<L>(L);

impl<L: Log> Log for Filtered<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        FILTER.read().as_ref().is_none_or(|filter| filter.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if FILTER.read().as_ref().is_none_or(|filter| filter.matches(record)) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Opens the log of this process. Call it once, and after the fork: the system log records the pid of the process that
/// opened it.
///
/// # Errors
/// When `--log-file` can't be written to.
pub(crate) fn init(config: &MountConfig) -> Result<(), LogError> {
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Trace);
    let logger: Box<dyn Log> = match &config.log_file {
        Some(path) => {
            let file = LogFile::open(path).map_err(|error| LogError::File {
                path: path.clone(),
                error,
            })?;
            let file = FILE.get_or_init(|| file);
            boxed(builder.target(Target::Pipe(Box::new(file))).format(line).build())
        }
        None if !config.foreground => boxed(SystemLog::open()),
        None if std::env::var_os(JOURNAL_VARIABLE).is_some() => boxed(builder.format(journal_line).build()),
        None => boxed(builder.format(line).build()),
    };
    log::set_boxed_logger(logger)?;
    use_filter(&std::env::var(VARIABLE).unwrap_or_else(|_| filter(config.verbosity).to_owned()));
    // In the background, standard error, where Rust prints panics, is `/dev/null`.
    std::panic::set_hook(Box::new(
        |bug| log::error!(event = events::PANIC; "a bug in fetchfs: {bug}"),
    ));
    Ok(())
}

/// Where the log of a mount goes, for people.
pub(crate) fn destination(config: &MountConfig) -> String {
    match &config.log_file {
        Some(path) => std::path::absolute(path)
            .unwrap_or_else(|_| path.clone())
            .display()
            .to_string(),
        None if !config.foreground => "the system log; `journalctl -t fetchfs` shows it".to_owned(),
        None if std::env::var_os(JOURNAL_VARIABLE).is_some() => "the journal, with the unit's other output".to_owned(),
        None => "standard error of its process".to_owned(),
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

/// The file of `--log-file`.
static FILE: OnceLock<LogFile> = OnceLock::new();

struct LogFile {
    /// Absolute, because the daemon changes its working directory.
    path: PathBuf,
    /// Locked for one line at a time.
    file: Mutex<File>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        let path = std::path::absolute(path)?;
        let file = Mutex::new(append_to(&path)?);
        Ok(LogFile { path, file })
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

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The log filter for each number of `-v`. Without `-v`: failures, and the life of the mount, which `mount` logs. fuser
/// is quieter than the rest. It warns of harmless events, for example an unmount by another process. It logs an error
/// when a reader was killed before its reply. At debug level it prints every request.
fn filter(verbosity: u8) -> &'static str {
    match verbosity {
        0 => "warn,fuser=error,fuser::reply=off,rustls_platform_verifier=off,fetchfs::mount=info",
        1 => "warn,fuser=error,fuser::reply=off,rustls_platform_verifier=off,fetchfs=info",
        2 => "info,fuser::reply=off,fetchfs=debug",
        _ => "debug,fetchfs=trace",
    }
}

fn boxed(sink: impl Log + 'static) -> Box<dyn Log> {
    Box::new(Filtered(RateLimitedLog::new(sink)))
}

/// The text of a line: the message and the name of its event.
struct Text<'a>(&'a Record<'a>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.args())?;
        Event::of(self.0).map_or(Ok(()), |event| write!(f, " {event}"))
    }
}

/// A line for a file or a terminal: time, level and text; from debug level on, also the module.
fn line(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    let (time, level) = (out.timestamp_millis(), record.level());
    let style = out.default_level_style(level);
    write!(out, "{time} {style}{level:5}{style:#} ")?;
    if level > Level::Info {
        write!(out, "{}: ", record.target())?;
    }
    writeln!(out, "{}", Text(record))
}

/// A line for the journal: priority and text (sd-daemon(3)).
fn journal_line(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    writeln!(out, "<{}>{}", priority(record.level()), Text(record))
}

/// syslog(3). Until the process leaves its terminal, warnings also go to standard error; afterwards that is
/// `/dev/null`.
struct SystemLog;

impl SystemLog {
    fn open() -> SystemLog {
        // SAFETY: the C library keeps the pointer to the name; the literal is static.
        unsafe { libc::openlog(c"fetchfs".as_ptr(), libc::LOG_PID, libc::LOG_DAEMON) };
        SystemLog
    }
}

impl Log for SystemLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = Text(record).to_string();
        if record.level() <= Level::Warn {
            // Standard error may be closed. There is no other place to report that.
            let _ = writeln!(io::stderr(), "fetchfs: {text}");
        }
        let Ok(text) = CString::new(text.replace('\0', "")) else {
            return;
        };
        // SAFETY: both are C strings that outlive the call, and the format takes one string.
        unsafe { libc::syslog(priority(record.level()), c"%s".as_ptr(), text.as_ptr()) };
    }

    fn flush(&self) {}
}

fn priority(level: Level) -> libc::c_int {
    match level {
        Level::Error => libc::LOG_ERR,
        Level::Warn => libc::LOG_WARNING,
        Level::Info => libc::LOG_INFO,
        Level::Debug | Level::Trace => libc::LOG_DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(verbosity: u8, target: &str, level: Level) -> bool {
        let logger = env_filter::Builder::new().parse(filter(verbosity)).build();
        logger.enabled(&Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn without_v_the_life_of_the_mount_and_what_goes_wrong() {
        assert!(shown(0, "fetchfs::mount", Level::Info));
        assert!(shown(0, "fetchfs::cache::store", Level::Warn));
        assert!(!shown(0, "fetchfs::cache::store", Level::Info));
        assert!(!shown(0, "fuser::session", Level::Warn));
    }

    #[test]
    fn lines_end_with_the_event() {
        let mut record = Record::builder();
        assert_eq!(Text(&record.args(format_args!("text")).build()).to_string(), "text");
        let event = events::ORIGIN_DOWN.key_value();
        record.key_values(&event);
        let text = Text(&record.args(format_args!("text")).build()).to_string();
        assert_eq!(text, "text event=origin_down");
    }

    #[test]
    fn each_v_shows_more() {
        assert!(shown(1, "fetchfs::http", Level::Info) && !shown(1, "fetchfs::http", Level::Debug));
        assert!(shown(2, "fetchfs::http", Level::Debug) && shown(2, "fuser", Level::Warn));
        assert!(!shown(2, "reqwest", Level::Debug));
        assert!(shown(3, "fetchfs::http", Level::Trace) && shown(3, "fuser", Level::Debug));
    }
}
