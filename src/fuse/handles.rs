//! Open files and directories, by the numbers that the kernel knows them by.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::FileHandle;
use parking_lot::RwLock;

/// The open handles of one kind.
pub struct Handles<T> {
    next: AtomicU64,
    /// Written to by open and release only; a read takes it for the moment of a look-up, shared.
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Handles<T> {
    /// No open handle.
    pub fn new() -> Handles<T> {
        Handles::starting_at(1)
    }

    /// No open handle, and numbers from this one on.
    pub fn starting_at(first: u64) -> Handles<T> {
        Handles {
            next: AtomicU64::new(first),
            open: RwLock::default(),
        }
    }

    /// A number for something that was opened.
    pub fn insert(&self, opened: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(opened));
        FileHandle(number)
    }

    /// What was opened under this number.
    pub fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.read().get(&handle.0).cloned()
    }

    /// Forgets a number.
    pub fn remove(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open.write().remove(&handle.0)
    }
}
