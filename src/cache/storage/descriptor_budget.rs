//! How many data files are open at a time: fewer than the process may have open.
//!
//! A data file that is open takes a file descriptor, and a reader may have any number of files open. Without a limit they would
//! take the last one, and no connection could be made and no index read. So data files have a share, and the rest is for
//! everything else. A version that finds the share used up has no data file, and is read around the cache.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit};

/// Descriptors that are left for everything else: connections to some origins and those around the cache, the index, the
/// kernel's and the user's sockets. Under a limit that is lower than twice this, it is half of that.
const RESERVED: u64 = 128;

/// The share of the data files.
#[derive(Debug)]
pub struct DescriptorBudget {
    most: usize,
    taken: AtomicUsize,
}

/// One of them. Dropped, it is free again.
#[derive(Debug)]
pub struct Descriptor(Arc<DescriptorBudget>);

impl DescriptorBudget {
    /// What this process may have.
    pub fn of_this_process() -> Arc<DescriptorBudget> {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(2 * RESERVED, |(soft, _)| soft);
        let most = limit - RESERVED.min(limit / 2);
        DescriptorBudget::at_most(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn at_most(most: usize) -> Arc<DescriptorBudget> {
        Arc::new(DescriptorBudget {
            most,
            taken: AtomicUsize::new(0),
        })
    }

    /// One more.
    ///
    /// # Errors
    /// EMFILE when all are taken.
    pub fn take(self: &Arc<Self>) -> io::Result<Descriptor> {
        let one = Descriptor(Arc::clone(self));
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.most {
            return Ok(one);
        }
        // Dropping `one` takes it back.
        Err(io::Error::from_raw_os_error(libc::EMFILE))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_each_comes_back() {
        let descriptors = DescriptorBudget::at_most(2);
        let (first, _second) = (descriptors.take().unwrap(), descriptors.take().unwrap());
        for _ in 0..3 {
            assert_eq!(descriptors.take().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        }
        drop(first);
        assert!(descriptors.take().is_ok());
    }
}
