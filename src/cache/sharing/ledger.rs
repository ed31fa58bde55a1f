//! The ledger: the disk space of the cache directory, counted by all processes that use it.
//!
//! The file `usage` ([`file`]) has one page of numbers ([`page`](super::page)), which each process reads and writes. **The
//! count is never less than what is allocated**: bytes are added before they are written, and
//! subtracted after a hole was punched. What a killed process had reserved and not written stays
//! counted until the next process alone in the directory, or the next
//! [`audit`](crate::cache::eviction), corrects it.
//!
//! Each process has a slot in the page, which it holds by a lock on a byte of the file. The kernel
//! releases the lock with the process, so the slot of a dead process is unlocked. The slot holds
//! the size that the process was configured with, and its pid, for messages. The smallest size
//! applies to all.
//!
//! **Errors of the page do not end the process.** If the page can't be read or written,
//! reservations fail at once and reads bypass the cache. Changes that must be counted are counted
//! when the page can be written again. If another program has truncated or overwritten the page,
//! this process writes it anew from what it knows, and requests an audit.

mod file;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::locks::{Lock, is_locked_by_others, try_lock};
use super::page::{self, FOLDERS, GROWN, LIMIT, Page, SLOTS, Word, limit_of, process_in, reserved_by};
use super::peers::{Bell, Overhead, Peers, Space};
use crate::cache::error::CacheError;
use crate::util::events;
use file::{Changing, JOIN_LOCK, slot_lock};

/// Slot of a ledger that only reads the page.
const NO_SLOT: usize = usize::MAX;

/// Intervals at which a waiter polls for other processes' bells, for which there is no event. Alone
/// in the directory, only `fetchfs cache` and new processes ring.
const LOOK_FOR_OTHERS: Duration = Duration::from_millis(20);
const LOOK_FOR_NEWCOMERS: Duration = Duration::from_secs(1);

/// One process's access to the counters.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The file; its lock holds the slot.
    file: File,
    slot: usize,
    /// Held over the few system calls of a read or change. No other lock is taken under it, except
    /// that of the file.
    state: Mutex<State>,
    /// Notified when a bell rings in this process. Belongs to `state`.
    rung: Condvar,
    /// The clock, the limit and the second in which they were read: for the recency of reads.
    recent: (AtomicU64, AtomicU64),
    looked: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// The page as last read or written, with the pending changes.
    page: Page,
    /// Changes still to be added to the file's numbers.
    owed: BTreeMap<Word, i64>,
    /// Number of rings of each bell that could not be written: visible in this process alone.
    unwritten: [u32; 2],
    /// The last error of writing the page.
    failing: Option<String>,
}

impl State {
    fn rung(&self, bell: Bell) -> u32 {
        self.page.rung(bell).wrapping_add(self.unwritten[bell as usize])
    }
}

impl Ledger {
    /// Opens the file and takes a slot in it, as [`join`](super::join) does.
    ///
    /// # Errors
    /// If the file can't be created or written, or all slots are taken.
    pub(super) fn join(folder: &Path, limit: u64, recorded: u64) -> Result<Ledger, CacheError> {
        let path = folder.join("usage");
        let failed = |reason: String| CacheError::Folder {
            path: path.display().to_string(),
            reason,
        };
        let file = file::open(&path).map_err(|error| failed(error.to_string()))?;
        Ledger::join_file(file, limit, recorded).map_err(failed)
    }

    /// A ledger that only reads an open file.
    fn looking_at(file: File) -> io::Result<Ledger> {
        let page = file::read(&file)?;
        Ok(Ledger {
            file,
            slot: NO_SLOT,
            recent: (page[GROWN].into(), page[LIMIT].into()),
            looked: AtomicU32::new(0),
            state: Mutex::new(State {
                page,
                owed: BTreeMap::new(),
                unwritten: [0; 2],
                failing: None,
            }),
            rung: Condvar::new(),
        })
    }

    /// Joins with a file that is locked for joining.
    fn join_file(file: File, limit: u64, recorded: u64) -> Result<Ledger, String> {
        let failed = |error: io::Error| error.to_string();
        let mut ledger = Ledger::looking_at(file).map_err(failed)?;
        let taken: Vec<bool> = (0..SLOTS).map(|slot| ledger.is_taken(slot)).collect();
        let Some(slot) = taken.iter().position(|taken| !taken) else {
            return Err(format!("{SLOTS} mounts already use it (pids {})", ledger.processes()));
        };
        try_lock(&ledger.file, slot_lock(slot), Lock::Exclusive).map_err(failed)?;
        ledger.slot = slot;
        // If there are other processes and the page was overwritten, they restore what they know at
        // their next access.
        let is_first = !taken.contains(&true);
        ledger
            .change_with(|page, _| {
                if is_first || !page.is_begun() {
                    page.begin_anew(recorded);
                }
                page[limit_of(slot)] = limit;
                page[reserved_by(slot)] = 0;
                page[process_in(slot)] = std::process::id().into();
            })
            .map_err(failed)?;
        ledger.agree_on_limit();
        // If this fails, the lock ends with the file.
        let _ = try_lock(&ledger.file, JOIN_LOCK, Lock::None);
        Ok(ledger)
    }

    /// Reads the page.
    fn look<T>(&self, look: impl FnOnce(&Page) -> T) -> T {
        let mut state = self.state.lock();
        let read = file::read(&self.file).unwrap_or_else(|_| state.page.clone());
        if self.is_intact(&read) {
            state.page = read;
            let State { page, owed, .. } = &mut *state;
            page.add(owed.iter().map(|(&word, &by)| (word, by)));
            self.note(&state.page);
        }
        look(&state.page)
    }

    /// Changes the page, in one step for all processes.
    ///
    /// # Errors
    /// If the page can't be read or written: then nothing is changed.
    fn change<T>(&self, change: impl FnOnce(&mut Page) -> T) -> io::Result<T> {
        self.change_with(|page, state| {
            if !self.is_intact(page) {
                self.mend(page, &state.page);
            }
            page.add(state.owed.iter().map(|(&word, &by)| (word, by)));
            change(page)
        })
    }

    fn change_with<T>(&self, change: impl FnOnce(&mut Page, &State) -> T) -> io::Result<T> {
        let mut state = self.state.lock();
        let changed = (|| {
            let _locked = Changing::begin(&self.file)?;
            let before = file::read(&self.file)?;
            let mut page = before.clone();
            let changed = change(&mut page, &state);
            if page != before {
                file::write(&page, &self.file)?;
            }
            Ok((changed, page))
        })();
        match changed {
            Ok((changed, page)) => {
                self.note(&page);
                state.page = page;
                state.owed.clear();
                if state.failing.take().is_some() {
                    log::info!(event = events::USAGE_COUNT_BACK; "the usage count of the cache can be written again");
                }
                Ok(changed)
            }
            Err(error) => {
                let error: io::Error = error;
                if state.failing.replace(error.to_string()).is_none() {
                    log::info!(
                        event = events::USAGE_COUNT_FAILED;
                        "the usage count of the cache can't be written ({error}); nothing more is cached until it \
                         can"
                    );
                }
                Err(error)
            }
        }
    }

    /// Adds to numbers of the page now, or when it can be written again.
    fn add<const N: usize>(&self, changes: [(Word, i64); N]) {
        if self.change(|page| page.add(changes)).is_err() {
            let mut state = self.state.lock();
            state.page.add(changes);
            for (word, by) in changes {
                let owed = state.owed.entry(word).or_default();
                *owed = owed.saturating_add(by);
            }
        }
    }

    /// Returns true if it is the page in which this process has joined.
    fn is_intact(&self, page: &Page) -> bool {
        let has_slot = self.slot == NO_SLOT || page[process_in(self.slot)] == u64::from(std::process::id());
        page.is_begun() && has_slot
    }

    /// Restores a page that another program has truncated or overwritten, from the `known` one.
    fn mend(&self, page: &mut Page, known: &Page) {
        if !page.is_begun() {
            *page = known.clone();
            page.begin();
        }
        if self.slot != NO_SLOT {
            for word in [limit_of, reserved_by, process_in].map(|word| word(self.slot)) {
                page[word] = known[word];
            }
        }
        page.demand_audit();
    }

    fn note(&self, page: &Page) {
        self.recent.0.store(page[GROWN], Ordering::Relaxed);
        self.recent.1.store(page[LIMIT], Ordering::Relaxed);
    }

    /// Sets the limit to the smallest configured size of the processes that use the directory.
    fn agree_on_limit(&self) {
        let living = self.living();
        // If it can't be written, the previous limit holds.
        let _ = self.change(|page| page.agree_on_limit(&living));
    }

    /// The pids of the processes that use the directory, for a message.
    fn processes(&self) -> String {
        let living: Vec<usize> = (0..SLOTS).filter(|&slot| self.is_taken(slot)).collect();
        let numbers: Vec<String> =
            self.look(|page| living.iter().map(|&slot| page[process_in(slot)].to_string()).collect());
        numbers.join(", ")
    }

    /// The slots of the living processes that use the directory, with this one.
    fn living(&self) -> Vec<usize> {
        let noted: Vec<usize> = self.look(|page| self.noted_in(page).collect());
        let is_living = |slot: &usize| *slot == self.slot || self.is_taken(*slot);
        noted.into_iter().filter(is_living).collect()
    }

    /// The slots with a process, living or dead.
    fn noted_in(&self, page: &Page) -> impl Iterator<Item = usize> {
        (0..SLOTS).filter(|&slot| page[process_in(slot)] != 0)
    }

    fn is_taken(&self, slot: usize) -> bool {
        is_locked_by_others(&self.file, slot_lock(slot))
    }
}

impl Peers for Ledger {
    fn has_others(&self) -> bool {
        let noted: Vec<usize> = self.look(|page| self.noted_in(page).collect());
        noted.into_iter().any(|slot| slot != self.slot && self.is_taken(slot))
    }

    fn space(&self) -> Space {
        let living = self.living();
        self.look(|page| page.space(living.iter().map(|&slot| page[reserved_by(slot)]).sum()))
    }

    fn recent(&self, second: u32) -> (u64, u64) {
        if self.looked.swap(second, Ordering::Relaxed) != second {
            self.look(|_| ());
        }
        (
            self.recent.0.load(Ordering::Relaxed),
            self.recent.1.load(Ordering::Relaxed),
        )
    }

    fn set_limit(&self, limit: u64) {
        // If it can't be written, it is mended with what this process knows.
        if self.change(|page| page[limit_of(self.slot)] = limit).is_err() {
            self.state.lock().page[limit_of(self.slot)] = limit;
        }
        self.agree_on_limit();
    }

    fn try_reserve(&self, bytes: u64, most: u64) -> io::Result<bool> {
        self.change(|page| page.try_reserve(self.slot, bytes, most))
    }

    fn settle(&self, reserved: u64, grown: i64) {
        self.add(page::settling(self.slot, reserved, grown));
    }

    fn note_overhead(&self, overhead: Overhead) {
        match overhead {
            Overhead::NewDirectory(bytes) => self.add([(FOLDERS, bytes.cast_signed())]),
            // After a failure, the next measurement corrects it.
            Overhead::Index(_) | Overhead::Directories(_) => drop(self.change(|page| page.note_overhead(overhead))),
        }
    }

    fn claim_audit(&self, every: u64) -> bool {
        // After a failure: the audit's result could not be written.
        self.change(|page| page.claim_audit(every)).unwrap_or(false)
    }

    fn demand_audit(&self) {
        // If this fails, the next audit comes at its usual time.
        let _ = self.change(Page::demand_audit);
    }

    fn begin_audit(&self) -> Space {
        self.agree_on_limit();
        self.space()
    }

    /// Waiters in this process are notified even if the page can't be written.
    fn ring(&self, bell: Bell) {
        if self.change(|page| page.ring(bell)).is_err() {
            let unwritten = &mut self.state.lock().unwritten[bell as usize];
            *unwritten = unwritten.wrapping_add(1);
        }
        self.rung.notify_all();
    }

    fn rung(&self, bell: Bell) -> u32 {
        self.look(|_| ());
        self.state.lock().rung(bell)
    }

    fn wait(&self, bell: Bell, seen: u32, longest: Duration) {
        let deadline = Instant::now() + longest;
        loop {
            let pause = if self.has_others() {
                LOOK_FOR_OTHERS
            } else {
                LOOK_FOR_NEWCOMERS
            };
            // Read first. A later ring in this process takes the lock and is noticed.
            self.look(|_| ());
            let mut state = self.state.lock();
            let now = Instant::now();
            if state.rung(bell) != seen || now >= deadline {
                return;
            }
            self.rung.wait_for(&mut state, pause.min(deadline - now));
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.slot == NO_SLOT {
            return;
        }
        // Reservations still open will not be written. If this fails, the count is too high.
        let _ = self.change(|page| {
            page.add(page::settling(self.slot, page[reserved_by(self.slot)], 0));
            page[process_in(self.slot)] = 0;
        });
        let _ = try_lock(&self.file, slot_lock(self.slot), Lock::None);
    }
}

/// Bytes of the data files, by the count that the last users have left; `None` if there is none.
pub(crate) fn counted(folder: &Path) -> Option<u64> {
    let ledger = look_at(folder).ok().flatten()?;
    // Reservations of dead processes take no space; the next process alone subtracts them.
    Some(ledger.look(Page::used_without_reservations))
}

/// Requests an audit from the processes that use the directory, after another program has deleted
/// data files. Does nothing if there is no count.
///
/// # Errors
/// Any error of the file system.
pub(crate) fn demand_audit(folder: &Path) -> io::Result<()> {
    if let Some(ledger) = look_at(folder)? {
        ledger.change(|page| {
            page.demand_audit();
            page.ring(Bell::Wanted);
        })?;
    }
    Ok(())
}

/// The page, if it exists, for reading only.
fn look_at(folder: &Path) -> io::Result<Option<Ledger>> {
    let file = match OpenOptions::new().read(true).write(true).open(folder.join("usage")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let ledger = Ledger::looking_at(file)?;
    let is_begun = ledger.look(Page::is_begun);
    Ok(is_begun.then_some(ledger))
}

#[cfg(test)]
mod tests;
