//! Whether the records have reached the disk.
//!
//! When this process is killed, the kernel still has every byte that was written, so recorded
//! chunks exist. When the kernel crashes, or the power fails, chunks may be recorded whose bytes
//! never reached the disk. Two values in `cache_state` show this: a `boot_id` other than the
//! current one, and `clean` not set. Then the cache enters a new **epoch**, and the chunks of every
//! entry of an earlier epoch are verified before they are served. That costs one small transaction,
//! however much the cache holds.
//!
//! `clean` is unset, durably, before the first record of a session. So nothing is recorded, and no
//! data is dropped, while the file on the disk says "clean". The last process that ends in good
//! order sets it again.

use rusqlite::Connection;

use super::connections::in_transaction;
use crate::util::events;

/// The kernel's boot id; empty if unavailable, and an empty one never equals another.
pub(crate) fn boot_id() -> String {
    procfs::sys::kernel::random::boot_id().unwrap_or_default()
}

/// Opens the cache in this boot, and enters a new epoch if the previous boot may have lost data.
/// Returns the epoch, and whether the cache was already used in this boot.
///
/// # Errors
/// Any error of SQLite.
pub(super) fn begin(connection: &mut Connection, boot_id: &str) -> rusqlite::Result<(i64, bool)> {
    let (epoch, is_of_this_boot, is_news) = in_transaction(connection, |transaction| {
        let (noted, clean, epoch): (String, bool, i64) =
            transaction.query_row("SELECT boot_id, clean, epoch FROM cache_state", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        if noted == boot_id && !boot_id.is_empty() {
            return Ok((epoch, true, false));
        }
        let epoch = if clean { epoch } else { epoch + 1 };
        transaction.execute("UPDATE cache_state SET boot_id = ?1, epoch = ?2", (boot_id, epoch))?;
        Ok((epoch, false, !clean && !noted.is_empty()))
    })?;
    if is_news {
        log::warn!(
            event = events::UNCLEAN_SHUTDOWN;
            "the machine went down while the cache was in use; cached chunks will be verified when they are \
                    read"
        );
    }
    Ok((epoch, is_of_this_boot))
}

/// Notes that a process begins to record. Must be made durable.
///
/// # Errors
/// Any error of SQLite.
pub(super) fn unset_clean(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE cache_state SET clean = 0, session = session + 1";
    connection.execute(sql, []).map(|_| ())
}

/// Number of processes that have begun to record so far.
///
/// # Errors
/// Any error of SQLite.
pub(super) fn session(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT session FROM cache_state", [], |row| row.get(0))
}

/// Notes that all records are on the disk, unless another process has begun to record since
/// `session`. Must be made durable.
///
/// # Errors
/// Any error of SQLite.
pub(super) fn set_clean(connection: &Connection, session: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE cache_state SET clean = 1 WHERE session = ?1";
    connection.execute(sql, [session]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    fn cache() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, "x").unwrap();
        connection
    }

    #[test]
    fn only_another_boot_without_a_clean_end_begins_a_new_epoch() {
        let mut cache = cache();
        let (first, _) = begin(&mut cache, "boot 1").unwrap();
        unset_clean(&cache).unwrap();
        assert_eq!(begin(&mut cache, "boot 1").unwrap(), (first, true), "killed");
        assert_eq!(begin(&mut cache, "boot 2").unwrap(), (first + 1, false), "power cut");
        let session = session(&cache).unwrap();
        set_clean(&cache, session).unwrap();
        assert_eq!(
            begin(&mut cache, "boot 3").unwrap(),
            (first + 1, false),
            "clean end, then a reboot"
        );
        unset_clean(&cache).unwrap();
        assert_eq!(begin(&mut cache, "boot 4").unwrap(), (first + 2, false), "power cut");
    }

    #[test]
    fn clean_end_does_not_cover_a_later_session() {
        let mut cache = cache();
        let (epoch, _) = begin(&mut cache, "boot 1").unwrap();
        unset_clean(&cache).unwrap();
        let seen = session(&cache).unwrap();
        unset_clean(&cache).unwrap();
        set_clean(&cache, seen).unwrap();
        assert_eq!(begin(&mut cache, "boot 2").unwrap(), (epoch + 1, false));
    }

    #[test]
    fn a_boot_without_a_name_is_never_the_same() {
        let mut cache = cache();
        let (epoch, _) = begin(&mut cache, "").unwrap();
        assert_eq!(begin(&mut cache, "").unwrap(), (epoch + 1, false));
    }
}
