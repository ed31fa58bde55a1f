//! What the cache folder takes on disk, counted by all processes that use it.
//!
//! The file `usage` is one page that each of them maps: counters that are changed by atomic instructions. **The count is never
//! less than what is allocated**: bytes are added before they are written, and taken off after a hole was punched.
//! What a killed process had reserved and not written stays counted, until the next one alone in the folder or the next
//! [`audit`](super::audit) puts it right.
//!
//! Each process has a slot in the page, which it holds by a lock on a byte of the file: that goes with the process, so a
//! dead one's slot is known by being free. In it stand the size that it was told to keep to, of which the smallest
//! counts for all, and its number, for messages.
//!
//! How the page is laid out is in [`page`].

mod page;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use memmap2::MmapRaw;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::locks::{Lock, is_locked_by_others, try_lock};
use crate::cache::error::CacheError;
use page::{JOIN_LOCK, LEN, MAGIC, Page, SLOTS, Slot, map, open, slot_lock, wait, wake};

/// Of who looks at the page and does not count in it.
const NO_SLOT: usize = usize::MAX;

/// One process's hold on the counters.
#[derive(Debug)]
pub struct Ledger {
    /// Holds the lock on the slot.
    file: File,
    map: MmapRaw,
    slot: usize,
}

impl Ledger {
    /// Joins those who use the folder, with the size that this one was told to keep to. `recorded` is what the index says is
    /// there: who comes first believes the larger of the two counts.
    ///
    /// # Errors
    /// When the file can't be made or mapped, or too many processes use the folder.
    pub fn join(folder: &Path, limit: u64, recorded: u64) -> Result<Ledger, CacheError> {
        let path = folder.join("usage");
        let failed = |reason: String| CacheError::Folder {
            path: path.display().to_string(),
            reason,
        };
        let (file, map) = open(&path).map_err(|error| failed(error.to_string()))?;
        Ledger::join_page(file, map, limit, recorded).map_err(failed)
    }

    /// In memory, and not shared.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_nobody_else(limit: u64) -> Result<Ledger, CacheError> {
        let page = || -> io::Result<(File, MmapRaw)> {
            let file = File::from(memfd_create("usage", MFdFlags::MFD_CLOEXEC)?);
            file.set_len(LEN)?;
            let map = map(&file)?;
            Ok((file, map))
        };
        let failed = |reason: String| CacheError::Folder {
            path: "in memory".to_owned(),
            reason,
        };
        let (file, map) = page().map_err(|error| failed(error.to_string()))?;
        Ledger::join_page(file, map, limit, 0).map_err(failed)
    }

    /// The file of its page, once more.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn join_page(file: File, map: MmapRaw, limit: u64, recorded: u64) -> Result<Ledger, String> {
        let slot = NO_SLOT;
        let mut ledger = Ledger { file, map, slot };
        let taken: Vec<bool> = (0..SLOTS).map(|slot| ledger.is_taken(slot)).collect();
        if !taken.contains(&true) {
            ledger.begin_anew(recorded);
        }
        let Some(slot) = taken.iter().position(|taken| !taken) else {
            return Err(format!(
                "{SLOTS} mounts use it already, of the processes {}",
                ledger.processes()
            ));
        };
        try_lock(&ledger.file, slot_lock(slot), Lock::Exclusive).map_err(|error| error.to_string())?;
        ledger.slot = slot;
        let own = &ledger.page().slots[slot];
        own.limit.store(limit, Ordering::Relaxed);
        own.reserved.store(0, Ordering::Relaxed);
        own.process.store(std::process::id().into(), Ordering::Relaxed);
        ledger.agree_on_limit();
        // If it fails it goes with the file.
        let _ = try_lock(&ledger.file, JOIN_LOCK, Lock::None);
        Ok(ledger)
    }

    /// Nobody else uses the folder: what dead processes have left is no longer there.
    fn begin_anew(&self, recorded: u64) {
        let page = self.page();
        let is_known = page.magic.load(Ordering::Relaxed) == MAGIC;
        let used = if is_known { page.used.load(Ordering::Relaxed) } else { 0 };
        let clock = if is_known {
            page.grown.load(Ordering::Relaxed)
        } else {
            0
        };
        let reserved = page.slots.iter().map(|slot| slot.reserved.swap(0, Ordering::Relaxed));
        let reserved = if is_known {
            reserved.fold(0, u64::saturating_add)
        } else {
            0
        };
        page.used
            .store(used.saturating_sub(reserved).max(recorded), Ordering::Relaxed);
        page.grown.store(clock.max(recorded), Ordering::Relaxed);
        page.freed.store(0, Ordering::Relaxed);
        page.audited.store(0, Ordering::Relaxed);
        if !is_known {
            page.folders.store(0, Ordering::Relaxed);
        }
        page.index.store(0, Ordering::Relaxed);
        page.magic.store(MAGIC, Ordering::Relaxed);
    }

    /// The smallest size that one of those who use the folder was told.
    pub fn agree_on_limit(&self) {
        let page = self.page();
        let limits = (0..SLOTS).filter(|&slot| slot == self.slot || self.is_taken(slot));
        let smallest = limits.map(|slot| page.slots[slot].limit.load(Ordering::Relaxed)).min();
        page.limit.store(smallest.unwrap_or(0), Ordering::Relaxed);
    }

    /// Bytes: the size that is to be kept to.
    pub fn limit(&self) -> u64 {
        self.page().limit.load(Ordering::Relaxed)
    }

    /// Bytes that are allocated or reserved, all in all.
    pub fn total(&self) -> u64 {
        let page = self.page();
        [&page.used, &page.index, &page.folders]
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part.load(Ordering::Acquire)))
    }

    /// Counts bytes that are about to be written, if that leaves the total at `most` or below.
    pub fn try_reserve(&self, bytes: u64, most: u64) -> bool {
        let page = self.page();
        let others = page.index.load(Ordering::Acquire) + page.folders.load(Ordering::Acquire);
        let reserved = page.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            let used = used.checked_add(bytes)?;
            (used.saturating_add(others) <= most).then_some(used)
        });
        if reserved.is_ok() {
            self.own().reserved.fetch_add(bytes, Ordering::AcqRel);
            page.grown.fetch_add(bytes, Ordering::AcqRel);
        }
        reserved.is_ok()
    }

    /// Ends a reservation: so many bytes were counted, and the file grew by so many.
    pub fn settle(&self, reserved: u64, grown: i64) {
        self.adjust(grown.saturating_sub_unsigned(reserved));
        self.own().reserved.fetch_sub(reserved, Ordering::AcqRel);
    }

    /// Counts what was found to have changed on disk.
    pub fn adjust(&self, by: i64) {
        let page = self.page();
        // Never below nothing: that would be next to infinity.
        let change = |used: u64| Some(used.saturating_add_signed(by));
        let _ = page.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        if by < 0 {
            page.freed.fetch_add(by.unsigned_abs(), Ordering::AcqRel);
        }
    }

    /// The logical clock, in bytes: all that ever came in.
    pub fn clock(&self) -> u64 {
        self.page().grown.load(Ordering::Relaxed)
    }

    /// Bytes that ever went.
    pub fn freed(&self) -> u64 {
        self.page().freed.load(Ordering::Acquire)
    }

    /// Bytes of the data files alone, allocated or reserved.
    pub fn used(&self) -> u64 {
        self.page().used.load(Ordering::Acquire)
    }

    /// Bytes that living processes have reserved and not settled.
    pub fn reserved(&self) -> u64 {
        let living = (0..SLOTS).filter(|&slot| slot == self.slot || self.is_taken(slot));
        living
            .map(|slot| self.page().slots[slot].reserved.load(Ordering::Acquire))
            .sum()
    }

    /// Notes what the index takes, in bytes.
    pub fn set_index(&self, bytes: u64) {
        self.page().index.store(bytes, Ordering::Release);
    }

    /// Bytes: what was noted last of what the index takes.
    pub fn index(&self) -> u64 {
        self.page().index.load(Ordering::Acquire)
    }

    /// Notes what the folders take, in bytes.
    pub fn set_folders(&self, bytes: u64) {
        self.page().folders.store(bytes, Ordering::Release);
    }

    /// Counts a folder that is about to be made.
    pub fn add_folder(&self, bytes: u64) {
        self.page().folders.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Whether so much has come in since the last audit that it is time for one, and nobody else makes it.
    pub fn claim_audit(&self, every: u64) -> bool {
        let page = self.page();
        let (last, now) = (page.audited.load(Ordering::Acquire), self.clock().max(1));
        let is_due = last == 0 || now.saturating_sub(last) >= every;
        is_due
            && page
                .audited
                .compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// What is counted is known to be wrong: the next look at it finds an audit due.
    pub fn demand_audit(&self) {
        self.page().audited.store(0, Ordering::Release);
    }

    /// Whether other processes, or other caches of this one, use the folder.
    pub fn has_others(&self) -> bool {
        (0..SLOTS).any(|slot| {
            slot != self.slot && self.page().slots[slot].process.load(Ordering::Relaxed) != 0 && self.is_taken(slot)
        })
    }

    /// Tells all that room is wanted.
    pub fn want(&self) {
        wake(&self.page().wanted);
    }

    /// For [`Self::wait_wanted`].
    pub fn wanted(&self) -> u32 {
        self.page().wanted.load(Ordering::Acquire)
    }

    /// Sleeps until room is wanted, unless it was since `seen`, or for so long.
    pub fn wait_wanted(&self, seen: u32, longest: Duration) {
        wait(&self.page().wanted, seen, longest);
    }

    /// Tells all that there may be room now.
    pub fn relieve(&self) {
        wake(&self.page().relieved);
    }

    /// For [`Self::wait_relieved`].
    pub fn relieved(&self) -> u32 {
        self.page().relieved.load(Ordering::Acquire)
    }

    /// Sleeps until there may be room, unless that was so since `seen`, or for so long.
    pub fn wait_relieved(&self, seen: u32, longest: Duration) {
        wait(&self.page().relieved, seen, longest);
    }

    /// The numbers of the processes that use the folder, for a message.
    pub fn processes(&self) -> String {
        let living = (0..SLOTS).filter(|&slot| self.is_taken(slot));
        let numbers = living.map(|slot| self.page().slots[slot].process.load(Ordering::Relaxed).to_string());
        numbers.collect::<Vec<_>>().join(", ")
    }

    fn is_taken(&self, slot: usize) -> bool {
        is_locked_by_others(&self.file, slot_lock(slot))
    }

    fn own(&self) -> &Slot {
        &self.page().slots[self.slot]
    }

    fn page(&self) -> &Page {
        // SAFETY: the map is a page long and aligned to one, lives as long as `self`, and is only ever looked at as
        // this struct of atomics, for which any bytes are a value.
        unsafe { &*self.map.as_ptr().cast::<Page>() }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.slot == NO_SLOT {
            return;
        }
        // What was reserved by now will not be written.
        let reserved = self.own().reserved.swap(0, Ordering::AcqRel);
        self.adjust(0_i64.saturating_sub_unsigned(reserved));
        self.own().process.store(0, Ordering::Relaxed);
        let _ = try_lock(&self.file, slot_lock(self.slot), Lock::None);
    }
}

/// What the data files take, by the count that those who used the folder last have left; `None` if there is none.
pub fn counted(folder: &Path) -> Option<u64> {
    let ledger = look_at(folder).ok().flatten()?;
    let page = ledger.page();
    let reserved = page.slots.iter().map(|slot| slot.reserved.load(Ordering::Relaxed));
    // What dead processes have reserved is not there, and the next one alone takes it off.
    Some(ledger.used().saturating_sub(reserved.fold(0, u64::saturating_add)))
}

/// Has those who use the folder look what is in it: somebody who is none of them has deleted data files. Does nothing where there
/// is no count.
///
/// # Errors
/// What the file system says.
pub fn demand_audit(folder: &Path) -> io::Result<()> {
    if let Some(ledger) = look_at(folder)? {
        ledger.demand_audit();
        ledger.want();
    }
    Ok(())
}

/// The page, if there is one, without counting in it.
fn look_at(folder: &Path) -> io::Result<Option<Ledger>> {
    let file = match OpenOptions::new().read(true).write(true).open(folder.join("usage")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // What lies past the end of a file can't be touched in a map of it.
    if file.metadata()?.len() < LEN {
        return Ok(None);
    }
    let ledger = Ledger {
        map: map(&file)?,
        file,
        slot: NO_SLOT,
    };
    Ok((ledger.page().magic.load(Ordering::Relaxed) == MAGIC).then_some(ledger))
}

#[cfg(test)]
mod tests;
