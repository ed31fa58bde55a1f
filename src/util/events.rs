//! The names of log events: what scripts and tests look for in a log, independent of the wording of its lines.
//!
//! Each line at info level or above names its event, from this table:
//!
//! ```ignore
//! log::warn!(event = events::ORIGIN_DOWN; "{origin}: {error}");
//! ```
//!
//! [`crate::logging`] writes the name at the end of the line, as ` event=origin_down`. docs/operations.md has the
//! table for users. The tests below compare it with this one, and find lines without a name.

use std::fmt;

use log::Record;
use log::kv::{Key, ToValue, Value};

/// The key of the event among the values of a log record.
const KEY: &str = "event";

/// The name of a log event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event(&'static str);

impl Event {
    /// The event of a record, if it names one of the table.
    pub(crate) fn of(record: &Record<'_>) -> Option<Event> {
        let value = record.key_values().get(Key::from(KEY))?;
        let name = value.to_borrowed_str()?;
        ALL.iter().find(|event| event.0 == name).copied()
    }

    /// The name, as `origin_down`.
    pub(crate) fn name(self) -> &'static str {
        self.0
    }

    /// The key and the value of the event, for a record that is built by hand.
    pub(crate) fn key_value(self) -> (&'static str, Event) {
        (KEY, self)
    }
}

impl ToValue for Event {
    fn to_value(&self) -> Value<'_> {
        Value::from(self.0)
    }
}

/// As it is at the end of a line: `event=origin_down`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY}={}", self.0)
    }
}

/// Declares the constants, and the list of all of them in the order of the table.
macro_rules! events {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: Event = Event($name);)*

        /// All events, in the order of the table.
        const ALL: &[Event] = &[$($constant),*];

        /// The names of the constants, in the same order.
        #[cfg(test)]
        const CONSTANTS: &[&str] = &[$(stringify!($constant)),*];
    };
}

events! {
    // The mount.
    /// The mount can be used.
    MOUNTED = "mounted";
    /// The mount failed, in the background.
    MOUNT_FAILED = "mount_failed";
    /// A signal ends the mount.
    UNMOUNTING = "unmounting";
    /// The mount has ended.
    UNMOUNTED = "unmounted";
    /// The command that waits for a background mount was killed, so the mount ends.
    PARENT_GONE = "parent_gone";
    /// Programs still use the mount at its end, so it is detached lazily.
    MOUNT_BUSY = "mount_busy";
    /// Another file system is mounted over the mount at its end.
    MOUNT_COVERED = "mount_covered";
    /// The mount could not be detached at its end.
    UNMOUNT_FAILED = "unmount_failed";
    /// The mount of a process that was killed was removed from the mountpoint.
    DEAD_MOUNT_REMOVED = "dead_mount_removed";
    /// SIGHUP: listings are requested again.
    REFRESH_REQUESTED = "refresh_requested";
    /// SIGUSR1: the state of the mount.
    STATUS_REPORT = "status_report";
    /// An option was changed while mounted.
    OPTION_CHANGED = "option_changed";
    /// A changed library's file was taken over.
    LIBRARY_RELOADED = "library_reloaded";
    /// A changed library's file has a mistake, or can't be used; the earlier sources stay.
    RELOAD_FAILED = "reload_failed";
    /// A source of a library can't be listed.
    SOURCE_UNAVAILABLE = "source_unavailable";
    /// A source of a library can be listed again.
    SOURCE_AVAILABLE = "source_available";
    /// SIGTSTP (Ctrl-Z) is ignored.
    SUSPEND_IGNORED = "suspend_ignored";
    /// The log file can't be opened anew after its rotation.
    LOG_REOPEN_FAILED = "log_reopen_failed";
    /// A bug: a thread panicked.
    PANIC = "panic";
    /// A bug ended one operation. The mount continues.
    OPERATION_LOST = "operation_lost";

    // The kernel.
    /// Reads go through this process, without FUSE passthrough.
    PASSTHROUGH_OFF = "passthrough_off";
    /// One file is served without FUSE passthrough.
    PASSTHROUGH_FAILED = "passthrough_failed";
    /// In a pid namespace: waiting programs outside it can't be interrupted.
    RELAY_OFF = "relay_off";
    /// In a pid namespace: the connection to the kernel failed, and the mount ends.
    RELAY_FAILED = "relay_failed";
    /// The kernel did not take a reply.
    REPLY_REJECTED = "reply_rejected";
    /// The FUSE session of a mount of the library failed.
    SESSION_FAILED = "session_failed";

    /// A thumbnailer or an indexer has reached `--scan-limit`, for the first time.
    SCAN_LIMITED = "scan_limited";

    // Servers.
    /// A server fails as a whole. Requests to it pause.
    ORIGIN_DOWN = "origin_down";
    /// A server still fails.
    ORIGIN_STILL_DOWN = "origin_still_down";
    /// A server that failed responds again.
    ORIGIN_UP = "origin_up";
    /// A server is slow to respond. Cached listings are served instead.
    ORIGIN_UNRESPONSIVE = "origin_unresponsive";
    /// A server that was slow to respond does so again.
    ORIGIN_RESPONSIVE = "origin_responsive";
    /// A server refuses or breaks off parallel requests. Fewer are sent.
    CONNECTIONS_REDUCED = "connections_reduced";
    /// A server takes a new connection only after another one is closed.
    CONNECTIONS_CAPPED = "connections_capped";
    /// A server supports only HTTP/2.
    HTTP2_ONLY = "http2_only";
    /// A server ignores Range, so a file is downloaded from its beginning.
    RANGE_IGNORED = "range_ignored";
    /// ETag or Last-Modified differ between responses for the same file.
    VALIDATORS_DIFFER = "validators_differ";
    /// A mirror is used in the place of a source.
    MIRROR_USED = "mirror_used";
    /// A mirror is left out for a file or directory.
    MIRROR_SKIPPED = "mirror_skipped";
    /// A mirror can't replace its source at the beginning of the mount.
    MIRROR_UNUSABLE = "mirror_unusable";
    /// A node of a shared cache is not asked for a moment.
    TIER_RESTS = "tier_rests";
    /// A node of a shared cache is left out, does not allow a server or does not pass its credentials on.
    TIER_LEFT_OUT = "tier_left_out";
    /// `--tier-private`: credentials go to a node of a shared cache without TLS.
    TIER_PLAINTEXT = "tier_plaintext";
    /// `--tier-private`: some sources are read from their servers all the same.
    TIER_BYPASSED = "tier_bypassed";
    /// A DNS name of a shared cache has other nodes than before.
    TIER_NAME_FOUND = "tier_name_found";
    /// The look-up of a DNS name of a shared cache failed.
    TIER_NAME_FAILED = "tier_name_failed";
    /// A checksum file says another hash of a file that is served.
    CHECKSUM_DIFFERS = "checksum_differs";
    /// Bytes contradict a published hash, and are dropped.
    HASH_MISMATCH = "hash_mismatch";
    /// `--insecure`: certificates are not checked.
    CERTIFICATES_UNCHECKED = "certificates_unchecked";
    /// A proxy of the environment is of an unsupported type.
    PROXY_IGNORED = "proxy_ignored";

    // Directories and files.
    /// A listing leaves out names.
    NAMES_HIDDEN = "names_hidden";
    /// A listing leaves out directories whose path is too long.
    PATH_TOO_LONG = "path_too_long";
    /// A listing can't be updated. The cached one is shown.
    LISTING_STALE = "listing_stale";
    /// A directory is gone from the server.
    DIRECTORY_DELETED = "directory_deleted";
    /// A page does not look like a directory index.
    NOT_AN_INDEX = "not_an_index";
    /// Listings of an origin are requested in another form than at first: without scripts, or in JSON.
    LISTING_FORM = "listing_form";
    /// A WebDAV server fails to list a directory, whose index page is read instead.
    INDEX_PAGE_USED = "index_page_used";
    /// Files of a document have other names than it says.
    NAMES_NUMBERED = "names_numbered";
    /// A playlist in a playlist is shown as a file.
    PLAYLIST_NOT_OPENED = "playlist_not_opened";
    /// The Metalink of a file can't be used.
    METALINK_UNUSABLE = "metalink_unusable";
    /// The user names in a document's URLs are not used.
    LOGINS_DROPPED = "logins_dropped";
    /// A link without a trailing `/` leads to a directory.
    DIRECTORY_WITHOUT_SLASH = "directory_without_slash";
    /// The server has a file for any name, so only listed names exist.
    UNLISTED_NAMES_OFF = "unlisted_names_off";
    /// A listing changed without its validator, so that of its server's listings are ignored.
    VALIDATORS_IGNORED = "validators_ignored";
    /// The server's name for a single file is unknown. It is named by its URL.
    NAME_UNKNOWN = "name_unknown";
    /// A file's size and date can't be updated. The cached ones are used.
    METADATA_STALE = "metadata_stale";
    /// The server has another version of a file that is open.
    VERSION_CHANGED = "version_changed";
    /// The server denies access, or wants a login.
    ACCESS_DENIED = "access_denied";
    /// No usable response came in time.
    TIMED_OUT = "timed_out";
    /// A response can't be used, for example because it is no listing, or too long.
    BAD_RESPONSE = "bad_response";
    /// A look-up, a listing or an open failed for another reason.
    REQUEST_FAILED = "request_failed";
    /// A read failed for another reason.
    READ_FAILED = "read_failed";

    // The cache directory and its disk.
    /// The cache directory can't be opened at the beginning of the mount.
    CACHE_UNAVAILABLE = "cache_unavailable";
    /// The cache directory could be opened after all.
    CACHE_AVAILABLE = "cache_available";
    /// The cache can't be written. Reads bypass it.
    CACHE_BYPASSED = "cache_bypassed";
    /// The cache can be written again.
    CACHE_BACK = "cache_back";
    /// The cache directory is gone or was replaced.
    CACHE_DIR_GONE = "cache_dir_gone";
    /// The cache directory is back.
    CACHE_DIR_BACK = "cache_dir_back";
    /// The file system of the cache can't give back parts of files.
    HOLES_UNSUPPORTED = "holes_unsupported";
    /// The disk was too full to begin, so cached data was evicted.
    DISK_FULL = "disk_full";
    /// The disk of the cache fails.
    DISK_ERROR = "disk_error";
    /// A file exceeds the largest size that the cache can hold.
    FILE_TOO_LARGE = "file_too_large";
    /// The limit of open files is reached.
    DESCRIPTORS_EXHAUSTED = "descriptors_exhausted";
    /// The thread that makes room in the cache can't be started.
    EVICTION_FAILED = "eviction_failed";
    /// Cached bytes of a file can't be read. The read bypasses the cache.
    CACHE_READ_FAILED = "cache_read_failed";
    /// Cached bytes differ from what was fetched.
    CHECKSUM_MISMATCH = "checksum_mismatch";
    /// Another program truncated a data file of the cache.
    DATA_FILE_TRUNCATED = "data_file_truncated";
    /// Cached chunks of a file can't be read from the disk.
    CHUNKS_LOST = "chunks_lost";
    /// A data file that the kernel has open can't be read.
    DATA_FILE_UNREADABLE = "data_file_unreadable";

    // The cache's records, and its users.
    /// The machine went down while the cache was in use.
    UNCLEAN_SHUTDOWN = "unclean_shutdown";
    /// The cache was not flushed to the disk at the end of the mount.
    CACHE_NOT_FLUSHED = "cache_not_flushed";
    /// The index of the cache is damaged.
    INDEX_DAMAGED = "index_damaged";
    /// The index of the cache can't be read.
    INDEX_READ_FAILED = "index_read_failed";
    /// The index of the cache can't be written.
    INDEX_WRITE_FAILED = "index_write_failed";
    /// The index of the cache can be written again.
    INDEX_WRITE_BACK = "index_write_back";
    /// The cache directory can't be locked.
    CACHE_LOCK_FAILED = "cache_lock_failed";
    /// The count of used room can't be written.
    USAGE_COUNT_FAILED = "usage_count_failed";
    /// The count of used room can be written again.
    USAGE_COUNT_BACK = "usage_count_back";
    /// Running mounts can't be notified of freed room.
    MOUNTS_NOT_NOTIFIED = "mounts_not_notified";

    // Commands for a running mount.
    /// The socket for commands can't be opened, or fails.
    CONTROL_FAILED = "control_failed";
    /// The status page can be opened.
    HTTP_LISTENING = "http_listening";
    /// The status page fails.
    HTTP_LISTEN_FAILED = "http_listen_failed";
    /// A path of a prefetch failed.
    PREFETCH_FAILED = "prefetch_failed";
    /// A job of an earlier mount goes on.
    JOB_RESUMED = "job_resumed";
    /// The record of a job can't be read.
    JOB_DROPPED = "job_dropped";
    /// Paths of a job failed, and are tried again.
    JOB_RETRYING = "job_retrying";
    /// A job waits for the next mount.
    JOB_WAITING = "job_waiting";
    /// A job was cancelled by another mount.
    JOB_CANCELLED = "job_cancelled";
    /// A job that this mount waited to continue was finished or cancelled by another mount.
    JOB_GONE = "job_gone";
    /// A job is done.
    JOB_DONE = "job_done";
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Levels by name of the event.
    type Levels = BTreeMap<String, BTreeSet<String>>;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// Calls `see` with the text of each source file below a folder.
    fn each_source(folder: &Path, see: &mut dyn FnMut(&Path, &str)) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                each_source(&path, see);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(file!()) {
                see(&path, &fs::read_to_string(&path).expect("a source file"));
            }
        }
    }

    /// The rows of the table in the docs: levels, and the names in their order.
    fn documented() -> (Levels, Vec<String>) {
        let text = fs::read_to_string(root().join("docs/operations.md")).expect("the page");
        let table = text
            .split("<!-- events: begin -->")
            .nth(1)
            .expect("the begin of the table");
        let table = table.split("<!-- events: end -->").next().expect("its text");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let (mut levels, mut names) = (Levels::new(), Vec::new());
        for row in rows {
            let [name, level, meaning, to_do, ..] = row.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("four cells: {row}");
            };
            assert!(!meaning.is_empty() && !to_do.is_empty(), "{row}");
            let name = name.trim_end_matches('`').to_owned();
            levels.insert(name.clone(), level.split(", ").map(str::to_owned).collect());
            names.push(name);
        }
        (levels, names)
    }

    #[test]
    fn events_are_named_after_their_constants() {
        let names: Vec<_> = ALL.iter().map(|event| event.0.to_uppercase()).collect();
        assert_eq!(names, CONSTANTS);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each once");
    }

    #[test]
    fn docs_have_all_events() {
        let names: Vec<_> = ALL.iter().map(|event| event.0).collect();
        assert_eq!(documented().1, names, "left: docs/operations.md, right: util/events.rs");
    }

    #[test]
    fn every_line_names_its_event() {
        let (documented, _) = documented();
        let mut unused: BTreeSet<_> = CONSTANTS.iter().map(|name| (*name).to_owned()).collect();
        each_source(&root().join("src"), &mut |path, text| {
            unused.retain(|name| !has_word(text, name));
            for level in ["error", "warn", "info", "debug"] {
                for line in text.split(&format!("log::{level}!(")).skip(1) {
                    let line = line.trim_start();
                    let Some(event) = line.strip_prefix("event = ") else {
                        let start: String = line.chars().take(80).collect();
                        assert_eq!(
                            level,
                            "debug",
                            "{}: no `event = events::…;` before {start}",
                            path.display()
                        );
                        continue;
                    };
                    // A variable may have one of several events.
                    if let Some(name) = event.split(';').next().and_then(|event| event.strip_prefix("events::")) {
                        let levels = documented.get(&name.to_lowercase());
                        let is_said = levels.is_some_and(|levels| levels.contains(level));
                        assert!(
                            is_said,
                            "{}: docs/operations.md: {name} is logged at level {level}",
                            path.display()
                        );
                    }
                }
            }
        });
        assert!(unused.is_empty(), "no line has these events: {unused:?}");
    }

    fn has_word(text: &str, name: &str) -> bool {
        text.match_indices(&format!("events::{name}")).any(|(at, found)| {
            let next = text[at + found.len()..].chars().next();
            !next.is_some_and(|next| next.is_alphanumeric() || next == '_')
        })
    }
}
