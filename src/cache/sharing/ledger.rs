//! What the cache folder takes on disk, counted by all processes that use it.
//!
//! The file `usage` has one page of numbers, which each of them reads and writes ([`page`]). **The count is never
//! less than what is allocated**: bytes are added before they are written, and taken off after a hole was punched.
//! What a killed process had reserved and not written stays counted, until the next one alone in the folder or the next
//! [`audit`](super::audit) puts it right.
//!
//! Each process has a slot in the page, which it holds by a lock on a byte of the file: that goes with the process, so a
//! dead one's slot is known by being free. In it stand the size that it was told to keep to, of which the smallest
//! counts for all, and its number, for messages.
//!
//! **A page that can't be read or written ends nothing.** Room can't be reserved then, which is an error at once, so files are read
//! around the cache. What has to be counted all the same is counted when the page can be written again. A page that somebody
//! else has cut off or overwritten is written anew from what this process knew of it, and an audit is due.

mod page;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use parking_lot::{Condvar, Mutex};

use super::locks::{Lock, is_locked_by_others, try_lock};
use crate::cache::error::CacheError;
use page::{
    AUDITED, Bell, Changing, FOLDERS, FREED, GROWN, INDEX, JOIN_LOCK, LIMIT, Page, SLOTS, USED, Word, limit_of, open,
    process_in, reserved_by, slot_lock,
};

/// Of who looks at the page and does not count in it.
const NO_SLOT: usize = usize::MAX;

/// How often whoever waits looks whether another process has rung: there is no event for that. Alone in the folder, only
/// `fetchfs cache` and processes that are still to come may.
const LOOK_FOR_OTHERS: Duration = Duration::from_millis(20);
const LOOK_FOR_NEWCOMERS: Duration = Duration::from_secs(1);

/// One process's hold on the counters.
#[derive(Debug)]
pub struct Ledger {
    /// Holds the lock on the slot.
    file: File,
    slot: usize,
    /// Held over the few system calls of a look or a change. Nothing is taken under it, but the lock of the file.
    state: Mutex<State>,
    /// A bell was rung in this process. Goes with `state`.
    rung: Condvar,
    /// The clock, the limit and the second in which they were looked at: for what a read notes.
    recent: (AtomicU64, AtomicU64),
    looked: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// As it was last read or written, with what is owed to it.
    page: Page,
    /// What is still to be added to the file's numbers.
    owed: BTreeMap<Word, i64>,
    /// How often each bell was rung, and that could not be written: heard in this process alone.
    unwritten: [u32; 2],
    /// Why the page could not be written, if that was so the last time.
    failing: Option<String>,
}

impl State {
    fn rung(&self, bell: Bell) -> u32 {
        self.page.rung(bell).wrapping_add(self.unwritten[bell as usize])
    }
}

impl Ledger {
    /// Joins those who use the folder, with the size that this one was told to keep to. `recorded` is what the index says is
    /// there: who comes first believes the larger of the two counts.
    ///
    /// # Errors
    /// When the file can't be made or written, or too many processes use the folder.
    pub fn join(folder: &Path, limit: u64, recorded: u64) -> Result<Ledger, CacheError> {
        let path = folder.join("usage");
        let failed = |reason: String| CacheError::Folder {
            path: path.display().to_string(),
            reason,
        };
        let file = open(&path).map_err(|error| failed(error.to_string()))?;
        Ledger::join_file(file, limit, recorded).map_err(failed)
    }

    /// In memory, and not shared.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_nobody_else(limit: u64) -> Result<Ledger, CacheError> {
        let failed = |reason: String| CacheError::Folder {
            path: "in memory".to_owned(),
            reason,
        };
        let file = memfd_create("usage", MFdFlags::MFD_CLOEXEC).map_err(|error| failed(error.to_string()))?;
        Ledger::join_file(File::from(file), limit, 0).map_err(failed)
    }

    /// The file of its page, once more.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Of a file that is open, without counting in it.
    fn looking_at(file: File) -> io::Result<Ledger> {
        let page = Page::read(&file)?;
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

    /// Of a file that is locked for joining.
    fn join_file(file: File, limit: u64, recorded: u64) -> Result<Ledger, String> {
        let failed = |error: io::Error| error.to_string();
        let mut ledger = Ledger::looking_at(file).map_err(failed)?;
        let taken: Vec<bool> = (0..SLOTS).map(|slot| ledger.is_taken(slot)).collect();
        let Some(slot) = taken.iter().position(|taken| !taken) else {
            return Err(format!(
                "{SLOTS} mounts use it already, of the processes {}",
                ledger.processes()
            ));
        };
        try_lock(&ledger.file, slot_lock(slot), Lock::Exclusive).map_err(failed)?;
        ledger.slot = slot;
        // Where others are, and the page is not theirs any more, they put into it what they know when they look at it next.
        let is_first = !taken.contains(&true);
        ledger
            .change_with(|page, _| {
                if is_first || !page.is_begun() {
                    begin_anew(page, recorded);
                }
                page[limit_of(slot)] = limit;
                page[reserved_by(slot)] = 0;
                page[process_in(slot)] = std::process::id().into();
            })
            .map_err(failed)?;
        ledger.agree_on_limit();
        // If it fails it goes with the file.
        let _ = try_lock(&ledger.file, JOIN_LOCK, Lock::None);
        Ok(ledger)
    }

    /// What `look` makes of the page.
    fn look<T>(&self, look: impl FnOnce(&Page) -> T) -> T {
        let mut state = self.state.lock();
        let read = Page::read(&self.file).unwrap_or_else(|_| state.page.clone());
        if self.is_intact(&read) {
            state.page = read;
            let State { page, owed, .. } = &mut *state;
            page.add(owed.iter().map(|(&word, &by)| (word, by)));
            self.note(&state.page);
        }
        look(&state.page)
    }

    /// Has `change` change the page, in one step for all processes.
    ///
    /// # Errors
    /// When the page can't be read or written: then nothing is changed.
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
            let before = Page::read(&self.file)?;
            let mut page = before.clone();
            let changed = change(&mut page, &state);
            if page != before {
                page.write(&self.file)?;
            }
            Ok((changed, page))
        })();
        match changed {
            Ok((changed, page)) => {
                self.note(&page);
                state.page = page;
                state.owed.clear();
                if state.failing.take().is_some() {
                    log::info!("the count of what the cache takes is written again");
                }
                Ok(changed)
            }
            Err(error) => {
                let error: io::Error = error;
                if state.failing.replace(error.to_string()).is_none() {
                    log::info!(
                        "the count of what the cache takes can't be written ({error}): nothing more is cached until it can"
                    );
                }
                Err(error)
            }
        }
    }

    /// Changes the page now, or when it can be written again.
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

    /// Whether it is the page in which this process has joined the others.
    fn is_intact(&self, page: &Page) -> bool {
        let has_slot = self.slot == NO_SLOT || page[process_in(self.slot)] == u64::from(std::process::id());
        page.is_begun() && has_slot
    }

    /// Restores a page that another process has cut off or overwritten, from what was `known` of it.
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
        page[AUDITED] = 0;
    }

    fn note(&self, page: &Page) {
        self.recent.0.store(page[GROWN], Ordering::Relaxed);
        self.recent.1.store(page[LIMIT], Ordering::Relaxed);
    }

    /// The smallest size that one of those who use the folder was told.
    pub fn agree_on_limit(&self) {
        let living = self.living();
        // If it can't be written, what was agreed on before holds.
        let _ = self.change(|page| {
            let limits = living.iter().map(|&slot| page[limit_of(slot)]);
            page[LIMIT] = limits.min().unwrap_or(0);
        });
    }

    /// Bytes: the size that is to be kept to.
    pub fn limit(&self) -> u64 {
        self.look(|page| page[LIMIT])
    }

    /// The clock and the limit, as they were within this second, in seconds since 1970: no system call as a rule.
    pub fn recent(&self, second: u32) -> (u64, u64) {
        if self.looked.swap(second, Ordering::Relaxed) != second {
            self.look(|_| ());
        }
        (
            self.recent.0.load(Ordering::Relaxed),
            self.recent.1.load(Ordering::Relaxed),
        )
    }

    /// Bytes that are allocated or reserved, all in all.
    pub fn total(&self) -> u64 {
        self.look(Page::total)
    }

    /// Counts bytes that are about to be written, if that leaves the total at `most` or below.
    ///
    /// # Errors
    /// When that can't be counted.
    pub fn try_reserve(&self, bytes: u64, most: u64) -> io::Result<bool> {
        self.change(|page| {
            let fits = page.total().saturating_add(bytes) <= most;
            if fits {
                let bytes = bytes.cast_signed();
                page.add([(USED, bytes), (GROWN, bytes), (reserved_by(self.slot), bytes)]);
            }
            fits
        })
    }

    /// Ends a reservation: so many bytes were counted, and the file grew by so many.
    pub fn settle(&self, reserved: u64, grown: i64) {
        let change = grown.saturating_sub_unsigned(reserved);
        let freed = change.min(0).saturating_neg();
        self.add([
            (USED, change),
            (FREED, freed),
            (reserved_by(self.slot), 0_i64.saturating_sub_unsigned(reserved)),
        ]);
    }

    /// Counts what was found to have changed on disk.
    pub fn adjust(&self, by: i64) {
        if by != 0 {
            self.add([(USED, by), (FREED, by.min(0).saturating_neg())]);
        }
    }

    /// The logical clock, in bytes: all that ever came in.
    pub fn clock(&self) -> u64 {
        self.look(|page| page[GROWN])
    }

    /// Bytes that ever went.
    pub fn freed(&self) -> u64 {
        self.look(|page| page[FREED])
    }

    /// Bytes of the data files alone, allocated or reserved.
    pub fn used(&self) -> u64 {
        self.look(|page| page[USED])
    }

    /// Bytes that living processes have reserved and not settled.
    pub fn reserved(&self) -> u64 {
        let living = self.living();
        self.look(|page| living.iter().map(|&slot| page[reserved_by(slot)]).sum())
    }

    /// Notes what the index takes, in bytes. If that can't be written, the next look at the index is.
    pub fn set_index(&self, bytes: u64) {
        let _ = self.change(|page| page[INDEX] = bytes);
    }

    /// Bytes: what was noted last of what the index takes.
    pub fn index(&self) -> u64 {
        self.look(|page| page[INDEX])
    }

    /// Notes what the folders take, in bytes. As for the index.
    pub fn set_folders(&self, bytes: u64) {
        let _ = self.change(|page| page[FOLDERS] = bytes);
    }

    /// Counts a folder that is about to be made.
    pub fn add_folder(&self, bytes: u64) {
        self.add([(FOLDERS, bytes.cast_signed())]);
    }

    /// Whether so much has come in since the last audit that it is time for one, and nobody else makes it.
    pub fn claim_audit(&self, every: u64) -> bool {
        let claimed = self.change(|page| {
            let (last, now) = (page[AUDITED], page[GROWN].max(1));
            let is_due = last == 0 || now.saturating_sub(last) >= every;
            if is_due {
                page[AUDITED] = now;
            }
            is_due
        });
        // What it finds could not be written.
        claimed.unwrap_or(false)
    }

    /// What is counted is known to be wrong: the next look at it finds an audit due.
    pub fn demand_audit(&self) {
        // If that can't be written, the next one comes when it would have come.
        let _ = self.change(|page| page[AUDITED] = 0);
    }

    /// Whether other processes, or other caches of this one, use the folder.
    pub fn has_others(&self) -> bool {
        let noted: Vec<usize> = self.look(|page| self.noted_in(page).collect());
        noted.into_iter().any(|slot| slot != self.slot && self.is_taken(slot))
    }

    /// Tells all that room is wanted.
    pub fn want(&self) {
        self.ring(Bell::Wanted);
    }

    /// For [`Self::wait_wanted`].
    pub fn wanted(&self) -> u32 {
        self.rung(Bell::Wanted)
    }

    /// Sleeps until room is wanted, unless it was since `seen`, or for so long.
    pub fn wait_wanted(&self, seen: u32, longest: Duration) {
        self.wait(Bell::Wanted, seen, longest);
    }

    /// Tells all that there may be room now.
    pub fn relieve(&self) {
        self.ring(Bell::Relieved);
    }

    /// For [`Self::wait_relieved`].
    pub fn relieved(&self) -> u32 {
        self.rung(Bell::Relieved)
    }

    /// Sleeps until there may be room, unless that was so since `seen`, or for so long.
    pub fn wait_relieved(&self, seen: u32, longest: Duration) {
        self.wait(Bell::Relieved, seen, longest);
    }

    /// Those in this process hear it even if it can't be written.
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
            // Looked at first, and what is rung here from then on is heard: it takes the lock.
            self.look(|_| ());
            let mut state = self.state.lock();
            let now = Instant::now();
            if state.rung(bell) != seen || now >= deadline {
                return;
            }
            self.rung.wait_for(&mut state, pause.min(deadline - now));
        }
    }

    /// The numbers of the processes that use the folder, for a message.
    pub fn processes(&self) -> String {
        let living: Vec<usize> = (0..SLOTS).filter(|&slot| self.is_taken(slot)).collect();
        let numbers: Vec<String> =
            self.look(|page| living.iter().map(|&slot| page[process_in(slot)].to_string()).collect());
        numbers.join(", ")
    }

    /// The slots of those who use the folder, this one among them.
    fn living(&self) -> Vec<usize> {
        let noted: Vec<usize> = self.look(|page| self.noted_in(page).collect());
        let is_living = |slot: &usize| *slot == self.slot || self.is_taken(*slot);
        noted.into_iter().filter(is_living).collect()
    }

    /// The slots in which a process stands, living or dead.
    fn noted_in(&self, page: &Page) -> impl Iterator<Item = usize> {
        (0..SLOTS).filter(|&slot| page[process_in(slot)] != 0)
    }

    fn is_taken(&self, slot: usize) -> bool {
        is_locked_by_others(&self.file, slot_lock(slot))
    }
}

/// No other process uses the folder: what dead processes have left is no longer there.
fn begin_anew(page: &mut Page, recorded: u64) {
    if !page.is_begun() {
        *page = Page::empty();
        page.begin();
    }
    page[USED] = without_reservations(page).max(recorded);
    page[GROWN] = page[GROWN].max(recorded);
    (0..SLOTS).for_each(|slot| page[reserved_by(slot)] = 0);
    for word in [FREED, AUDITED, INDEX] {
        page[word] = 0;
    }
}

/// Bytes of the data files, without those that were reserved for what nobody will write.
fn without_reservations(page: &Page) -> u64 {
    let reserved = (0..SLOTS).map(|slot| page[reserved_by(slot)]);
    page[USED].saturating_sub(reserved.fold(0, u64::saturating_add))
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.slot == NO_SLOT {
            return;
        }
        // What was reserved by now will not be written. If that can't be counted, too much is.
        let _ = self.change(|page| {
            let reserved = std::mem::take(&mut page[reserved_by(self.slot)]);
            page.add([
                (USED, 0_i64.saturating_sub_unsigned(reserved)),
                (FREED, reserved.cast_signed()),
            ]);
            page[process_in(self.slot)] = 0;
        });
        let _ = try_lock(&self.file, slot_lock(self.slot), Lock::None);
    }
}

/// What the data files take, by the count that those who used the folder last have left; `None` if there is none.
pub fn counted(folder: &Path) -> Option<u64> {
    let ledger = look_at(folder).ok().flatten()?;
    // What dead processes have reserved is not there, and the next one alone takes it off.
    Some(ledger.look(without_reservations))
}

/// Has those who use the folder look what is in it: somebody who is none of them has deleted data files. Does nothing where there
/// is no count.
///
/// # Errors
/// What the file system says.
pub fn demand_audit(folder: &Path) -> io::Result<()> {
    if let Some(ledger) = look_at(folder)? {
        ledger.change(|page| {
            page[AUDITED] = 0;
            page.ring(Bell::Wanted);
        })?;
    }
    Ok(())
}

/// The page, if there is one, without counting in it.
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
