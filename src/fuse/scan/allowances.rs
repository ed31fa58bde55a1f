//! The allowances of a mount, by file and program: a thumbnailer that opens a film a second time gets no more of it.
//!
//! **Their number is bounded.** They are in two generations; when the younger one is full it replaces the older one. So an
//! allowance is forgotten only after [`GENERATION`] others were asked for. Forgotten means that the program gets as much of that
//! file again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use smol_str::SmolStr;

use crate::cache::Allowance;

/// Most allowances of a generation: some 2 MiB in both.
const GENERATION: usize = 8192;

type Generation = HashMap<(u64, SmolStr), Arc<Allowance>>;

/// All allowances.
pub(super) struct Allowances {
    limit: Arc<AtomicU64>,
    /// Locked at the first read of a handle by a scanner. No other lock is taken under it.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    young: Generation,
    old: Generation,
}

impl Allowances {
    /// None yet. `limit` is the current value of the option.
    pub(super) fn new(limit: &Arc<AtomicU64>) -> Allowances {
        Allowances {
            limit: Arc::clone(limit),
            known: Mutex::default(),
        }
    }

    /// What a program may have of the file with this inode number, which another version of the file does not have.
    pub(super) fn of(&self, ino: u64, program: &SmolStr) -> Arc<Allowance> {
        let (key, mut known) = ((ino, program.clone()), self.known.lock());
        if let Some(allowance) = known.young.get(&key) {
            return Arc::clone(allowance);
        }
        if known.young.len() >= GENERATION {
            known.old = std::mem::take(&mut known.young);
        }
        let allowance = known.old.remove(&key);
        let allowance = allowance.unwrap_or_else(|| Arc::new(Allowance::new(&self.limit)));
        known.young.insert(key, Arc::clone(&allowance));
        allowance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_program_have_one_allowance() {
        let allowances = Allowances::new(&Arc::new(AtomicU64::new(1)));
        let of = |ino, name: &str| allowances.of(ino, &SmolStr::new(name));
        let first = of(1, "tumblerd");
        assert!(Arc::ptr_eq(&first, &of(1, "tumblerd")));
        assert!(!Arc::ptr_eq(&first, &of(2, "tumblerd")) && !Arc::ptr_eq(&first, &of(1, "updatedb")));
        for ino in 10..10 + GENERATION as u64 {
            of(ino, "tumblerd");
        }
        assert!(Arc::ptr_eq(&first, &of(1, "tumblerd")), "it is in the older generation");
        for ino in 0..3 * GENERATION as u64 {
            of(100_000 + ino, "tumblerd");
        }
        let known = allowances.known.lock();
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        drop(known);
        assert!(!Arc::ptr_eq(&first, &of(1, "tumblerd")));
    }
}
