//! The descriptor budget: how many data files may be open at a time, fewer than the process's
//! limit.
//!
//! An open data file takes a file descriptor, and a reader may open any number of files. Without a
//! limit they would take the last descriptor, and connections and index queries would fail. So data
//! files have a share, and the rest is for everything else. When the share is used up, a version
//! gets no data file, and its reads bypass the cache.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit};

/// Descriptors left for everything else: connections, the index, and the sockets of kernel and
/// users. With a limit lower than twice this, half of the limit.
const RESERVED: u64 = 128;

/// The share of the data files.
#[derive(Debug)]
pub(crate) struct DescriptorBudget {
    most: usize,
    taken: AtomicUsize,
}

/// One descriptor of the share. Released on drop.
#[derive(Debug)]
pub(crate) struct Descriptor(Arc<DescriptorBudget>);

impl DescriptorBudget {
    /// The budget of this process, from its limit of open files.
    pub(crate) fn of_this_process() -> Arc<DescriptorBudget> {
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

    /// Takes one more.
    ///
    /// # Errors
    /// EMFILE if all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Descriptor> {
        let one = Descriptor(Arc::clone(self));
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.most {
            return Ok(one);
        }
        // Dropping `one` releases it.
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
