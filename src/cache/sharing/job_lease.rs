//! Leases of jobs: of the processes that use a cache directory, one at a time runs a prefetch job.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::locks::{Lock, try_lock};

/// Its bytes are never written; each job locks one of them.
const JOB_LOCKS: &str = "jobs.lock";

/// The lease of a job: no other mount over the directory runs it. Released on drop.
#[derive(Debug)]
pub struct JobLease {
    /// Locked at the job's offset; `None` where nothing can be locked.
    _file: Option<File>,
}

impl JobLease {
    /// Takes the lease of the job with this key; `None` while another mount has it. Some system calls.
    pub(crate) fn take(cache_dir: &Path, key: &str) -> Option<JobLease> {
        match lock_job(cache_dir, key) {
            Ok(None) => None,
            Ok(file) => Some(JobLease { _file: file }),
            Err(error) => {
                // Two mounts that run the same job lose time, and nothing else.
                log::debug!("can't lock a prefetch job: {error}");
                Some(JobLease { _file: None })
            }
        }
    }
}

fn lock_job(cache_dir: &Path, key: &str) -> io::Result<Option<File>> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(cache_dir.join(JOB_LOCKS))?;
    // An offset is positive.
    let place = (xxh3_64(key.as_bytes()) >> 1, 1);
    Ok(try_lock(&file, place, Lock::Exclusive)?.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_leased_once() {
        let dir = tempfile::tempdir().unwrap();
        let lease = JobLease::take(dir.path(), "one").unwrap();
        assert!(JobLease::take(dir.path(), "one").is_none());
        assert!(JobLease::take(dir.path(), "other").is_some());
        drop(lease);
        assert!(JobLease::take(dir.path(), "one").is_some());
        assert!(
            JobLease::take(&dir.path().join("missing"), "one").is_some(),
            "nothing can be locked there"
        );
    }
}
