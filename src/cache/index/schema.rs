//! The tables of the index, and the migrations from older files.
//!
//! `PRAGMA user_version` holds the number of migrations that a file has been through. A released
//! migration is never changed: a new one is added.
//!
//! Each chunk has a row of 25 to 30 bytes in a table without row numbers. A tebibyte of cache (4
//! million chunks) takes some 120 MB, 0.011 % of it. A bitmap for each entry would take a fifth of
//! that. But each completed chunk would rewrite its page of the bitmap, and the table could not be
//! read with the `sqlite3` shell.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::shared_memory;
use crate::cache::error::CacheError;

/// One SQL text per step; step `i` migrates a file from version `i` to `i + 1`.
const MIGRATIONS: &[&str] = &[
    r"
CREATE TABLE cache_entries (
    entry_id       INTEGER PRIMARY KEY,
    -- hash of URL, version and chunk size; names the data file
    entry_key      TEXT NOT NULL UNIQUE,
    -- hash of the URL alone, with its query
    url_key        TEXT NOT NULL,
    -- for people: without credentials, without the values of its query
    url            TEXT NOT NULL,
    size           INTEGER NOT NULL,
    validator      TEXT NOT NULL,
    -- seconds since 1970, by the origin's word
    modified       INTEGER,
    chunk_size     INTEGER NOT NULL,
    chunk_count    INTEGER NOT NULL,
    chunks_present INTEGER NOT NULL DEFAULT 0,
    complete       INTEGER NOT NULL GENERATED ALWAYS AS (chunks_present = chunk_count) VIRTUAL,
    -- seconds since 1970: when this was last seen to be the current version; when it was last opened
    confirmed      INTEGER NOT NULL,
    last_used      INTEGER NOT NULL
) STRICT;
CREATE INDEX cache_entries_by_url ON cache_entries (url_key, confirmed);
CREATE INDEX cache_entries_by_use ON cache_entries (last_used);

CREATE TABLE cache_chunks (
    entry_id    INTEGER NOT NULL REFERENCES cache_entries (entry_id) ON DELETE CASCADE,
    chunk_index INTEGER NOT NULL,
    -- XXH3 (64 bits) of the chunk's bytes
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (entry_id, chunk_index)
) STRICT, WITHOUT ROWID;

-- An entry becomes complete by itself: its count follows the rows, in their transaction.
CREATE TRIGGER chunk_recorded AFTER INSERT ON cache_chunks BEGIN
    UPDATE cache_entries SET chunks_present = chunks_present + 1 WHERE entry_id = NEW.entry_id;
END;
CREATE TRIGGER chunk_forgotten AFTER DELETE ON cache_chunks BEGIN
    UPDATE cache_entries SET chunks_present = chunks_present - 1 WHERE entry_id = OLD.entry_id;
END;
",
    r"
-- One row: what the time before this one has left behind (see `state`).
CREATE TABLE cache_state (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    -- the kernel's name for the time since it was started, when the cache was last opened
    boot_id TEXT NOT NULL,
    -- grows whenever data may have been lost that was recorded
    epoch   INTEGER NOT NULL,
    -- grows whenever a process begins to record
    session INTEGER NOT NULL,
    -- whether all that is recorded is on the disk for certain
    clean   INTEGER NOT NULL
) STRICT;
INSERT INTO cache_state VALUES (1, '', 0, 0, 0);

-- the data file's number in its file system: another file under its name is not the one that was filled
ALTER TABLE cache_entries ADD COLUMN inode INTEGER NOT NULL DEFAULT 0;
-- of an earlier epoch than the cache's: its chunks are verified before they are served
ALTER TABLE cache_entries ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
",
    r"
-- What origins have said of names. One blob for each directory: 10,000 names are written and read in milliseconds, and a
-- listing is only ever replaced as a whole.
CREATE TABLE listings (
    -- hash of the directory's URL, with its query
    url_key  TEXT PRIMARY KEY,
    -- for people: without credentials, without the values of its query
    url      TEXT NOT NULL,
    -- a line for each name; src/vfs/listing/stored.rs says how
    names    BLOB NOT NULL,
    -- seconds since 1970, by the origin's word
    modified INTEGER,
    -- seconds since 1970: when the origin last told something new
    listed   INTEGER NOT NULL
) STRICT;

CREATE TABLE remote_files (
    -- hash of the file's URL, with its query
    url_key   TEXT PRIMARY KEY,
    -- the current version
    size      INTEGER NOT NULL,
    validator TEXT NOT NULL,
    -- seconds since 1970, by the origin's word
    modified  INTEGER,
    -- seconds since 1970: when the origin last told it
    confirmed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What earlier mounts have cached, in the order in which it was confirmed: the last one stays.
INSERT OR REPLACE INTO remote_files (url_key, size, validator, modified, confirmed)
SELECT url_key, size, validator, modified, confirmed FROM cache_entries ORDER BY confirmed, entry_id;
",
    r"
CREATE TABLE prefetch_jobs (
    job_id  INTEGER PRIMARY KEY,
    -- hash of all that follows
    job_key TEXT NOT NULL UNIQUE,
    -- hash of what is mounted
    source  TEXT NOT NULL,
    -- paths and byte ranges, as JSON
    wanted  TEXT NOT NULL
) STRICT;
CREATE INDEX prefetch_jobs_by_source ON prefetch_jobs (source);

-- 1: the user wants it kept. Follows from `pins` by itself, below.
ALTER TABLE cache_entries ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;

CREATE TABLE pins (
    url_key      TEXT PRIMARY KEY,
    -- for people, and for directories to know what is below them
    url          TEXT NOT NULL,
    -- a directory's pin covers all that is below it
    is_directory INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Of a file's versions the current one is pinned, and no older one.
CREATE TRIGGER entry_recorded AFTER INSERT ON cache_entries WHEN EXISTS (SELECT 1 FROM pins) BEGIN
    UPDATE cache_entries SET pinned = (entry_id = NEW.entry_id) AND EXISTS (
        SELECT 1 FROM pins WHERE pins.url_key = NEW.url_key
        OR (is_directory AND substr(NEW.url, 1, length(pins.url)) = pins.url)
    ) WHERE url_key = NEW.url_key;
END;
CREATE TRIGGER entry_confirmed AFTER UPDATE OF confirmed ON cache_entries WHEN EXISTS (SELECT 1 FROM pins) BEGIN
    UPDATE cache_entries SET pinned = (entry_id = NEW.entry_id) AND EXISTS (
        SELECT 1 FROM pins WHERE pins.url_key = NEW.url_key
        OR (is_directory AND substr(NEW.url, 1, length(pins.url)) = pins.url)
    ) WHERE url_key = NEW.url_key;
END;
CREATE TRIGGER pin_recorded AFTER INSERT ON pins BEGIN
    UPDATE cache_entries SET pinned = 1
    WHERE (url_key = NEW.url_key OR (NEW.is_directory AND substr(url, 1, length(NEW.url)) = NEW.url))
    AND entry_id = (
        SELECT entry_id FROM cache_entries AS version WHERE version.url_key = cache_entries.url_key
        ORDER BY confirmed DESC, entry_id DESC LIMIT 1
    );
END;
CREATE TRIGGER pin_forgotten AFTER DELETE ON pins BEGIN
    UPDATE cache_entries SET pinned = EXISTS (
        SELECT 1 FROM pins WHERE pins.url_key = cache_entries.url_key
        OR (is_directory AND substr(cache_entries.url, 1, length(pins.url)) = pins.url)
    ) WHERE pinned = 1;
END;
",
    r"
-- Eviction: see src/cache/eviction/policy.rs.
-- the lowest rank of its segments: what goes first
ALTER TABLE cache_entries ADD COLUMN coldest INTEGER NOT NULL DEFAULT 0;
-- seconds since 1970: when the segment that was not used for longest was used
ALTER TABLE cache_entries ADD COLUMN stalest INTEGER NOT NULL DEFAULT 0;
-- how each segment of 64 chunks was used: twelve bytes each
ALTER TABLE cache_entries ADD COLUMN segments BLOB NOT NULL DEFAULT x'';
UPDATE cache_entries SET stalest = last_used;
DROP INDEX cache_entries_by_use;
CREATE INDEX cache_entries_by_rank ON cache_entries (pinned, coldest, entry_id);
",
    r"
-- Names age, too. Seconds since 1970: when the origin last confirmed it, or a mount last showed it.
ALTER TABLE listings ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE listings SET used = listed;
ALTER TABLE remote_files ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE remote_files SET used = confirmed;
",
    r"
-- What the tree showed of this version: what the listing said of it then, in the tree's own text (src/vfs/nodes/file_text.rs), and its inode
-- number. NULL until it was shown.
ALTER TABLE remote_files ADD COLUMN listed TEXT;
ALTER TABLE remote_files ADD COLUMN ino INTEGER;
",
    r"
-- The published hash that all chunks together were found to have: `sha-256:` and hexadecimal digits. NULL until they are compared.
ALTER TABLE cache_entries ADD COLUMN verified TEXT;
DROP TRIGGER chunk_forgotten;
CREATE TRIGGER chunk_forgotten AFTER DELETE ON cache_chunks BEGIN
    UPDATE cache_entries SET chunks_present = chunks_present - 1, verified = NULL WHERE entry_id = OLD.entry_id;
END;
",
    r"
-- What the source publishes as the hash of the whole file: `sha-256:` and hexadecimal digits. NULL if it publishes none.
ALTER TABLE cache_entries ADD COLUMN published TEXT;
",
];

/// Pages of 4 KiB after which SQLite moves its log into the database.
const WAL_PAGES: i64 = 256;

/// `PRAGMA application_id` of an index: "ftch". Distinguishes it from another program's database.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"ftch");

/// The kind of a file, by its header.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// Empty, an index of fetchfs, or a database without tables.
    Usable,
    /// An index of this version, which is newer than this program's.
    Newer(i64),
    /// No database, or another program's.
    Foreign,
}

/// Checks a file's header **without SQLite**, which would write to it: a foreign file stays as it
/// is.
///
/// # Errors
/// [`CacheError::NewerIndex`], [`CacheError::Index`] for a foreign file, or the system's
/// error.
pub(super) fn inspect(path: &Path) -> Result<(), CacheError> {
    let shown = path.display().to_string();
    let index_error = |reason: String, is_damaged| CacheError::Index {
        path: shown.clone(),
        reason,
        is_damaged,
    };
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER_LEN).read_to_end(&mut header));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(index_error(error.to_string(), false)),
        Ok(_) => {}
    }
    match judge_header(&header) {
        Header::Usable => Ok(()),
        Header::Foreign => Err(index_error("it is not an index of fetchfs".to_owned(), true)),
        Header::Newer(found) => Err(CacheError::NewerIndex {
            path: shown,
            found,
            known: VERSION,
        }),
    }
}

/// Bytes (<https://www.sqlite.org/fileformat.html>, 1.3).
const HEADER_LEN: u64 = 100;

fn judge_header(header: &[u8]) -> Header {
    if header.is_empty() {
        return Header::Usable;
    }
    if header.len() < HEADER_LEN as usize || !header.starts_with(b"SQLite format 3\0") {
        return Header::Foreign;
    }
    let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    // The number of schema changes; the version; the application's id.
    let (changes, version, application) = (number(40), number(60), number(68));
    match application {
        // An index gets its tables and its version in one step.
        0 | APPLICATION_ID if version == 0 && changes != 0 => Header::Foreign,
        // An index before version 2 has no id.
        0 | APPLICATION_ID if i64::from(version) > VERSION => Header::Newer(version.into()),
        0 | APPLICATION_ID => Header::Usable,
        _ => Header::Foreign,
    }
}

/// The version of a migrated file.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Migrates the file to [`VERSION`], in one transaction.
///
/// # Errors
/// [`CacheError::NewerIndex`] for a file of a newer fetchfs, which is left untouched;
/// otherwise any error of SQLite.
pub(super) fn migrate(connection: &mut Connection, path: &str) -> Result<(), CacheError> {
    let failed = |error| CacheError::of_index(path, &error);
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(failed)?;
    let found: i64 = transaction
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)?;
    if found > VERSION {
        return Err(CacheError::NewerIndex {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    if found == VERSION {
        // The file is used as it is, even on a full disk.
        return Ok(());
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    for (name, value) in [("user_version", VERSION), ("application_id", APPLICATION_ID.into())] {
        transaction.pragma_update(None, name, value).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Opens a connection with the settings that each one needs.
///
/// WAL lets readers continue during a write. `synchronous=NORMAL` loses at most the last
/// transactions at a power cut, never the file; those chunks are fetched again.
///
/// # Errors
/// Any error of SQLite.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    make_private(path);
    shared_memory::watch();
    let connection = Connection::open(path)?;
    // Other processes may share the cache directory: their transactions take milliseconds.
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The log counts as part of the cache's size, so it is limited to about a mebibyte.
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_PAGES * 4096)?;
    Ok(connection)
}

/// Creates a new index file for its owner alone, because URLs may be private. SQLite gives the
/// files that it creates beside it the same mode.
fn make_private(path: &Path) {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    // If it can't be created, SQLite reports a better error.
    drop(made);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_gets_all_steps_and_an_up_to_date_one_none() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, "x").unwrap();
        migrate(&mut connection, "x").unwrap();
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, VERSION);
    }

    #[test]
    fn migration_keeps_the_last_confirmed_version() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute_batch(
                "INSERT INTO cache_entries (entry_key, url_key, url, size, validator, chunk_size, chunk_count, confirmed,
                                            last_used)
                 VALUES ('b', 'u', 'u', 2, 'none', 4096, 1, 20, 0), ('a', 'u', 'u', 1, 'none', 4096, 1, 10, 0)",
            )
            .unwrap();
        migrate(&mut connection, "x").unwrap();
        let size: i64 = connection
            .query_row("SELECT size FROM remote_files WHERE url_key = 'u'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(size, 2);
    }

    #[test]
    fn a_file_of_a_newer_fetchfs_is_left_untouched() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        let refused = migrate(&mut connection, "/x/index.db");
        assert!(matches!(refused, Err(CacheError::NewerIndex { found, .. }) if found == VERSION + 1));
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
    }

    #[test]
    fn header_identifies_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let header_with = |pragma: &str, value: i64| {
            let _ = std::fs::remove_file(&path);
            let mut connection = Connection::open(&path).unwrap();
            migrate(&mut connection, "x").unwrap();
            connection.pragma_update(None, pragma, value).unwrap();
            drop(connection);
            std::fs::read(&path).unwrap()[..HEADER_LEN as usize].to_vec()
        };
        assert_eq!(judge_header(&header_with("user_version", VERSION)), Header::Usable);
        assert_eq!(
            judge_header(&header_with("user_version", VERSION + 1)),
            Header::Newer(VERSION + 1)
        );
        assert_eq!(judge_header(&header_with("application_id", 0)), Header::Usable);
        assert_eq!(judge_header(&header_with("application_id", 77)), Header::Foreign);
        assert_eq!(
            judge_header(&header_with("user_version", 0)),
            Header::Foreign,
            "tables, and no version"
        );
        assert_eq!(judge_header(b""), Header::Usable);
        assert_eq!(judge_header(&[7; 10_000]), Header::Foreign);
        assert_eq!(judge_header(b"SQLite format 3\0 and then it ends"), Header::Foreign);
    }
}
