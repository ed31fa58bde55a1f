//! Open files and directories by their handle numbers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::FileHandle;
use parking_lot::RwLock;

/// The open handles of one kind.
pub(super) struct Handles<T> {
    next: AtomicU64,
    /// Locked for writing by open and release only. A read takes it shared for the moment of a look-up.
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    /// An empty table.
    pub(super) fn new() -> Handles<T> {
        Handles::starting_at(1)
    }

    /// An empty table whose numbers begin at `first`.
    pub(super) fn starting_at(first: u64) -> Handles<T> {
        Handles {
            next: AtomicU64::new(first),
            open: RwLock::default(),
        }
    }

    /// Adds an opened file and returns its handle.
    pub(super) fn insert(&self, opened: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(opened));
        FileHandle(number)
    }

    /// The opened file of a handle.
    pub(super) fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.read().get(&handle.0).cloned()
    }

    /// Removes a handle.
    pub(super) fn remove(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.write().remove(&handle.0)
    }
}
