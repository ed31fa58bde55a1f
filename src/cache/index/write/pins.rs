//! The effect of records about jobs and pins on the tables.

use rusqlite::{Connection, params};

use super::record::Record;

/// Applies the records about jobs and pins; other records have no effect here.
pub(super) fn apply(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Job(job) => {
            connection
                .prepare_cached("INSERT OR IGNORE INTO prefetch_jobs (job_key, source, wanted) VALUES (?1, ?2, ?3)")?
                .execute(params![job.key, job.source, job.wanted])?;
        }
        Record::JobDone { key } => {
            connection
                .prepare_cached("DELETE FROM prefetch_jobs WHERE job_key = ?1")?
                .execute([key])?;
        }
        Record::Pin(pin) => {
            connection
                .prepare_cached("INSERT OR IGNORE INTO pins (url_key, url, is_directory) VALUES (?1, ?2, ?3)")?
                .execute(params![pin.url_key.as_str(), pin.url, pin.is_directory])?;
        }
        Record::Unpin { url_key } => {
            connection
                .prepare_cached("DELETE FROM pins WHERE url_key = ?1")?
                .execute([url_key.as_str()])?;
        }
        _ => {}
    }
    Ok(())
}
