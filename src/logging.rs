//! The log: its destination, its form and its verbosity.
//!
//! - In the foreground the log goes to standard error.
//! - In the background it goes to the journal or the system log, or to a file where there is neither (`destination`);
//!   until the mount is up, warnings also go to the terminal.
//! - `--log-file` replaces both.
//!
//! `-v` sets the verbosity; `FETCHFS_LOG` overrides it, in env_logger's syntax. All code logs through the `log` macros
//! and does not depend on this module. A line ends with the name of its event ([`crate::util::events`]); the journal and
//! JSON have it as a field. Repeated lines are counted instead of written (`rate_limited`).

mod destination;
mod journal;
mod rate_limited;

use std::ffi::CString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use env_filter::Filter;
use env_logger::{Builder, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;

use crate::config::{LogFormat, MountConfig};
use crate::util::events::{self, Event};
pub(crate) use destination::reopen;
use destination::{Destination, LogFile};
use journal::Journal;
use rate_limited::RateLimitedLog;

/// The variable that overrides `-v`.
const VARIABLE: &str = "FETCHFS_LOG";

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
    let lines = match config.log_format {
        LogFormat::Text => line,
        LogFormat::Json => json_line,
    };
    let destination = DESTINATION.get_or_init(|| Destination::of(config));
    let logger: Box<dyn Log> = match destination {
        Destination::File(path) => boxed(to_file(path, lines)?),
        Destination::StateFile(path) => boxed(AlsoOnTerminal(to_file(path, lines)?)),
        Destination::Journal => match Journal::open(&config.mountpoint) {
            Ok(journal) if config.foreground => boxed(journal),
            Ok(journal) => boxed(AlsoOnTerminal(journal)),
            Err(_) => boxed(AlsoOnTerminal(SystemLog::open())),
        },
        Destination::SystemLog => boxed(AlsoOnTerminal(SystemLog::open())),
        Destination::StandardError => boxed(builder().format(lines).build()),
    };
    log::set_boxed_logger(logger)?;
    use_filter(&std::env::var(VARIABLE).unwrap_or_else(|_| filter(config.verbosity).to_owned()));
    // In the background, standard error, where Rust prints panics, is `/dev/null`.
    std::panic::set_hook(Box::new(
        |bug| log::error!(event = events::PANIC; "a bug in fetchfs: {bug}"),
    ));
    Ok(())
}

/// A line in the form of `--log-format`.
type Lines = fn(&mut env_logger::fmt::Formatter, &Record<'_>) -> io::Result<()>;

/// A logger that writes what [`Filtered`] lets through.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Trace);
    builder
}

fn to_file(path: &Path, lines: Lines) -> Result<env_logger::Logger, LogError> {
    let file = LogFile::of_process(path).map_err(|error| LogError::File {
        path: path.to_owned(),
        error,
    })?;
    Ok(builder().target(Target::Pipe(Box::new(file))).format(lines).build())
}

/// Where the log of a mount goes, for people.
pub(crate) fn destination(config: &MountConfig) -> String {
    DESTINATION
        .get()
        .map_or_else(|| Destination::of(config).shown(), Destination::shown)
}

/// Where the log of this process goes.
static DESTINATION: OnceLock<Destination> = OnceLock::new();

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

/// A line as a JSON object.
fn json_line(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = out.timestamp_millis().to_string();
    writeln!(out, "{}", json(&time, record))
}

fn json(time: &str, record: &Record<'_>) -> serde_json::Value {
    serde_json::json!({
        "time": time,
        "level": record.level().as_str().to_ascii_lowercase(),
        "event": Event::of(record).map(Event::name),
        "message": record.args().to_string(),
        "module": record.target(),
    })
}

/// Until the process leaves its terminal, warnings also go to standard error; afterwards that is `/dev/null`.
struct AlsoOnTerminal<L>(L);

impl<L: Log> Log for AlsoOnTerminal<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() <= Level::Warn {
            // Standard error may be closed. There is no other place to report that.
            let _ = writeln!(io::stderr(), "fetchfs: {}", Text(record));
        }
        self.0.log(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// syslog(3).
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
        let Ok(text) = CString::new(Text(record).to_string().replace('\0', "")) else {
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
    fn json_has_the_event_as_a_field() {
        let event = events::ORIGIN_DOWN.key_value();
        let mut record = Record::builder();
        record.level(Level::Warn).target("fetchfs::origin").key_values(&event);
        let object = json(
            "2025-06-01T12:00:00.000Z",
            &record.args(format_args!("\"text\"")).build(),
        );
        let expected = serde_json::json!({
            "time": "2025-06-01T12:00:00.000Z",
            "level": "warn",
            "event": "origin_down",
            "message": "\"text\"",
            "module": "fetchfs::origin",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn each_v_shows_more() {
        assert!(shown(1, "fetchfs::http", Level::Info) && !shown(1, "fetchfs::http", Level::Debug));
        assert!(shown(2, "fetchfs::http", Level::Debug) && shown(2, "fuser", Level::Warn));
        assert!(!shown(2, "reqwest", Level::Debug));
        assert!(shown(3, "fetchfs::http", Level::Trace) && shown(3, "fuser", Level::Debug));
    }
}
