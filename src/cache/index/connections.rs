//! The two connections of a process to its index, one for reading and one for writing, and how they
//! are reopened.
//!
//! They are closed and reopened in three cases: SQLite's shared memory is
//! [lost](shared_memory::is_lost); the file or its log can't be read, because another program has
//! truncated them for example; or the file could only be opened read-only. The first attempt is
//! made at once, further ones once per [`PAUSE`] while the connections are needed. **What was read
//! or was to be committed meanwhile counts as failed**: nothing is known, and nothing is recorded.

use std::ffi::c_int;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};

use super::{schema, shared_memory};

/// Pause between attempts to open the connections, or to open them for writing.
const PAUSE: Duration = Duration::from_secs(1);

/// The connections of one process.
pub(crate) struct Connections {
    /// Held for the milliseconds of one transaction, or as long as SQLite waits for another
    /// process. **Taken before `reader`.**
    writer: Mutex<Option<Connection>>,
    /// Held for the milliseconds of one query. A read of present bytes does not take it.
    reader: Mutex<Option<Connection>>,
    path: PathBuf,
    /// Device and inode of the file that was opened: another file in its place is not this index.
    inode: Option<(u64, u64)>,
    /// The last attempt to reopen them, and the error code of SQLite. No other lock is taken under
    /// it.
    tried: Mutex<Option<(Instant, c_int)>>,
    has_failed: AtomicBool,
    /// Number of times that they were reopened.
    generation: AtomicI64,
}

impl Connections {
    /// Two open connections to the file at `path`.
    pub(crate) fn new(writer: Connection, reader: Connection, path: &Path) -> Arc<Connections> {
        Arc::new(Connections {
            writer: Mutex::new(Some(writer)),
            reader: Mutex::new(Some(reader)),
            inode: inode_of(path),
            path: path.to_owned(),
            tried: Mutex::default(),
            has_failed: AtomicBool::new(false),
            generation: AtomicI64::new(0),
        })
    }

    /// A connection to a database in memory, without a writer.
    pub(crate) fn in_memory(reader: Connection) -> Arc<Connections> {
        Arc::new(Connections {
            writer: Mutex::default(),
            reader: Mutex::new(Some(reader)),
            inode: None,
            path: PathBuf::new(),
            tried: Mutex::default(),
            has_failed: AtomicBool::new(false),
            generation: AtomicI64::new(0),
        })
    }

    /// Returns true if the file is still in its place.
    pub(crate) fn is_in_place(&self) -> bool {
        inode_of(&self.path) == self.inode
    }

    /// Returns true if a query or change has ever failed, other than for lack of space or for
    /// another process's lock.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// A number that changes when anything is recorded, by this process or another.
    ///
    /// # Errors
    /// Any error of SQLite.
    pub(crate) fn version(&self) -> rusqlite::Result<i64> {
        let version =
            self.read(|reader| reader.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)))?;
        // A new connection restarts its count.
        Ok(self.generation.load(Ordering::Acquire) << 32 | version)
    }

    fn note<T>(&self, outcome: rusqlite::Result<T>) -> rusqlite::Result<T> {
        use ErrorCode::{DatabaseCorrupt, NotADatabase, SystemIoFailure};
        let code = outcome.as_ref().err().and_then(rusqlite::Error::sqlite_error_code);
        if matches!(code, Some(DatabaseCorrupt | NotADatabase | SystemIoFailure)) {
            self.has_failed.store(true, Ordering::Release);
        }
        outcome
    }

    /// Runs a query.
    ///
    /// # Errors
    /// Any error of SQLite, or that its shared memory is lost.
    pub(crate) fn read<T>(&self, query: impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        loop {
            if let Some(reader) = &*self.reader.lock()
                && !shared_memory::is_lost()
            {
                let answer = query(reader);
                if !shared_memory::is_lost() && !answer.as_ref().is_err_and(may_be_over_when_opened_anew) {
                    return self.note(answer);
                }
            }
            // A concurrent writer finds out by itself.
            let writer = self.writer.try_lock();
            let reopened = writer
                .ok_or_else(lost)
                .and_then(|mut writer| self.open_anew(&mut writer));
            if let Err(error) = reopened {
                return self.note(Err(error));
            }
        }
    }

    /// Changes something in one transaction.
    ///
    /// # Errors
    /// Any error of SQLite, or that its shared memory is lost; then the change may not
    /// have happened.
    pub(crate) fn write<T>(&self, change: impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.write_by(|connection| in_transaction(connection, &change))
    }

    /// Changes something in one transaction that is on the disk when this returns. [`Self::write`]
    /// leaves that to SQLite's next checkpoint.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub(crate) fn write_durably<T>(&self, change: impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.write_by(|connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let changed = in_transaction(connection, &change);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            changed
        })
    }

    fn write_by<T>(&self, write: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.note(self.write_unnoted(write))
    }

    fn write_unnoted<T>(&self, write: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut writer = self.writer.lock();
        if writer.is_none() || shared_memory::is_lost() {
            self.open_anew(&mut writer)?;
        }
        let connection = writer.as_mut().ok_or_else(lost)?;
        let written = write(connection);
        if shared_memory::is_lost() {
            let _ = self.open_anew(&mut writer);
            return Err(lost());
        }
        if written.as_ref().is_err_and(may_be_over_when_opened_anew) {
            // This change is lost in any case; the next one reports an error of reopening.
            let _ = self.open_anew(&mut writer);
        }
        written
    }

    /// Closes the reading connection, and prevents or permits opening a new one.
    #[cfg(test)]
    pub(crate) fn fail_reads(&self, do_fail: bool) {
        *self.reader.lock() = None;
        *self.tried.lock() = do_fail.then(|| (Instant::now() + Duration::from_secs(3600), ffi::SQLITE_IOERR));
    }

    /// Closes both connections and opens new ones.
    ///
    /// # Errors
    /// Any error of SQLite, now or at the last attempt.
    fn open_anew(&self, writer: &mut Option<Connection>) -> rusqlite::Result<()> {
        if self.inode.is_none() {
            return Err(lost());
        }
        let before = self.tried.lock().filter(|(tried, _)| tried.elapsed() < PAUSE);
        if let Some((_, said)) = before {
            return Err(failure(said));
        }
        let mut reader = self.reader.lock();
        self.generation.fetch_add(1, Ordering::AcqRel);
        let both = [writer.take(), reader.take()];
        both.into_iter().flatten().for_each(close_without_checkpoint);
        let opened = if self.is_in_place() && !shared_memory::is_lost() {
            schema::connect(&self.path).and_then(|one| Ok((one, schema::connect(&self.path)?)))
        } else {
            Err(lost())
        };
        let said = opened.as_ref().err().and_then(rusqlite::Error::sqlite_error);
        let said = said.map_or(ffi::SQLITE_IOERR_SHMMAP, |said| said.extended_code);
        *self.tried.lock() = Some((Instant::now(), said));
        let (to_write, to_read) = opened?;
        (*writer, *reader) = (Some(to_write), Some(to_read));
        Ok(())
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        let both = [self.writer.get_mut().take(), self.reader.get_mut().take()];
        if shared_memory::is_lost() || !self.is_in_place() {
            both.into_iter().flatten().for_each(close_without_checkpoint);
        }
    }
}

/// Closes a connection. A checkpoint relies on the shared memory: if that is lost, the log is left
/// for the next process that opens the index. After a checkpoint SQLite deletes the log **by its
/// name**: if a new index has taken the place of this one, that is the log of the new one.
fn close_without_checkpoint(connection: Connection) {
    // If this fails, SQLite has no memory for it, and makes no checkpoint either.
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

fn may_be_over_when_opened_anew(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::SystemIoFailure)
    )
}

/// Changes something in one transaction, unless the shared memory is lost before the commit.
///
/// # Errors
/// Any error of SQLite, or that loss.
pub(super) fn in_transaction<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = change(&transaction)?;
    // The data read for it may be stale, and the commit would put it into the log for all
    // processes.
    if shared_memory::is_lost() {
        return Err(lost());
    }
    transaction.commit()?;
    Ok(changed)
}

fn lost() -> rusqlite::Error {
    failure(ffi::SQLITE_IOERR_SHMMAP)
}

fn failure(code: c_int) -> rusqlite::Error {
    let said = match code {
        ffi::SQLITE_IOERR_SHMMAP => "its shared memory can't be used",
        code => ffi::code_to_str(code),
    };
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(said.to_owned()))
}

/// Device and inode of a file, if it exists.
fn inode_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
