//! The two connections of a process to its index: one to read with, one to write with; and opening them anew.
//!
//! When SQLite's shared memory is [lost](shared_memory::is_lost), when the file or its log can't be read (somebody has cut them off,
//! say), or when it could only be opened to be read, they are closed and opened anew: at once, and then again each [`PAUSE`] in which somebody needs them. **What was read or was to be committed
//! meanwhile counts as failed**: nothing is known, and nothing is recorded.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};

use super::{inode_of, schema, shared_memory};

/// How long connections that can't be opened, or not to be written, are left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub struct Connections {
    /// Held for the milliseconds of one transaction, or as long as SQLite waits for another process. **Taken before `reader`.**
    writer: Mutex<Option<Connection>>,
    /// Held for the milliseconds of one query. Nothing of a read that is present asks for it.
    reader: Mutex<Option<Connection>>,
    path: PathBuf,
    /// Device and number of the file that was opened: another one in its place is not this index.
    inode: Option<(u64, u64)>,
    /// When they were opened anew last, and what SQLite said if that failed. Nothing is taken under it.
    tried: Mutex<Option<(Instant, c_int)>>,
    has_failed: AtomicBool,
    /// How often they were opened anew.
    generation: AtomicI64,
}

impl Connections {
    /// Two that are open, to the file at `path`.
    pub fn new(writer: Connection, reader: Connection, path: &Path) -> Arc<Connections> {
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

    /// To a database in memory, with nothing to write to.
    pub fn in_memory(reader: Connection) -> Arc<Connections> {
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

    /// Whether the file is still in its place.
    pub fn is_in_place(&self) -> bool {
        inode_of(&self.path) == self.inode
    }

    /// Whether what is asked or changed has ever failed for what is not want of room, nor another process's lock.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Changes when anything was recorded, by this process or another.
    ///
    /// # Errors
    /// Whatever SQLite says.
    pub fn version(&self) -> rusqlite::Result<i64> {
        let version =
            self.read(|reader| reader.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)))?;
        // A new connection begins to count anew.
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

    /// Asks.
    ///
    /// # Errors
    /// Whatever SQLite says, or that its shared memory is lost.
    pub fn read<T>(&self, query: impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        loop {
            if let Some(reader) = &*self.reader.lock()
                && !shared_memory::is_lost()
            {
                let answer = query(reader);
                if !shared_memory::is_lost() && !answer.as_ref().is_err_and(may_be_over_when_opened_anew) {
                    return self.note(answer);
                }
            }
            // Who writes at this moment finds out by itself.
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
    /// Whatever SQLite says, or that its shared memory is lost; then it may be that nothing is changed.
    pub fn write<T>(&self, change: impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.write_by(|connection| in_transaction(connection, &change))
    }

    /// The same; it is on the disk when this returns. Usually SQLite leaves that to the next checkpoint.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn write_durably<T>(&self, change: impl Fn(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
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
            // This is lost in any case, and the next one finds what came of it.
            let _ = self.open_anew(&mut writer);
        }
        written
    }

    /// Closes the one to read with, and opens none; or may again.
    #[cfg(test)]
    pub fn fail_reads(&self, do_fail: bool) {
        *self.reader.lock() = None;
        *self.tried.lock() = do_fail.then(|| (Instant::now() + Duration::from_secs(3600), ffi::SQLITE_IOERR));
    }

    /// Closes both, and opens them anew.
    ///
    /// # Errors
    /// What SQLite says, or has said a moment ago.
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
        if shared_memory::is_lost() {
            both.into_iter().flatten().for_each(close_without_checkpoint);
        }
    }
}

/// Closes a connection. A checkpoint goes by the shared memory: where that is not to be believed, what is in the log stays there for
/// the next one who opens the index.
fn close_without_checkpoint(connection: Connection) {
    // If it can't be told, SQLite has no memory for it, and does no checkpoint either.
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

fn may_be_over_when_opened_anew(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::SystemIoFailure)
    )
}

/// Changes something in one transaction, unless the shared memory is lost before it is committed.
///
/// # Errors
/// Whatever SQLite says, or that.
pub fn in_transaction<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = change(&transaction)?;
    // What was read for it may have been old; and committed, it would be in the log for all.
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
