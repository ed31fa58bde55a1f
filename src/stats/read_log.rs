//! The slowest recent reads of each file, and how the reads of closed files went: what `fetchfs explain` shows.
//!
//! The memory is bounded whatever is read: so many files, and so many reads of each. The file whose last use is longest
//! ago makes way for another one. A read that is not slow costs one comparison here.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::misses::MissReason;
use super::phase::PhaseTimes;
use super::process::Process;
use super::reads::ReadTotals;

/// A read that takes this long is slow: a frame of a film lasts as long, and a disk answers sooner.
const SLOW: Duration = Duration::from_millis(20);

/// Most slow reads of a file that are remembered.
const MOST_OF_FILE: usize = 16;

/// Most files. With [`MOST_OF_FILE`] reads of about 300 bytes each, they take a megabyte.
const MOST_FILES: usize = 256;

/// A read that is older makes way before any newer one, even if it was slower.
const RECENT: Duration = Duration::from_secs(3600);

/// A read that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowRead {
    /// The file's URL, without secrets.
    pub url: String,
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes that were asked for.
    pub len: u64,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What it waited for.
    pub times: PhaseTimes,
    /// Why its bytes were not here; `None` if they were, or if it failed.
    pub reason: Option<MissReason>,
    /// The last server that answered for it.
    pub server: Option<String>,
    /// The process that made it, if it is known.
    pub process: Option<Process>,
    /// Why it failed, if it did: a sentence without its full stop.
    pub error: Option<String>,
}

/// The reads of one mount's files.
#[derive(Debug, Default)]
pub(crate) struct ReadLog {
    /// By inode. **Locked for the moment of a slow read or a close; no other lock is taken under it.**
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<u64, FileLog>,
    /// Counts the uses.
    uses: u64,
}

#[derive(Debug, Default)]
struct FileLog {
    /// The slowest first.
    slow: Vec<SlowRead>,
    /// The reads through handles that are closed.
    closed: ReadTotals,
    /// The number of its last use.
    used: u64,
}

impl ReadLog {
    /// Returns true if a read that took this long is to be noted.
    pub(crate) fn is_slow(time: Duration) -> bool {
        time >= SLOW
    }

    /// A slow read of the file with this inode has ended.
    pub(crate) fn note(&self, ino: u64, read: SlowRead) {
        self.change(ino, |file| file.note(read));
    }

    /// A handle on the file with this inode was closed, through which these reads went.
    pub(crate) fn note_closed(&self, ino: u64, reads: ReadTotals) {
        if reads != ReadTotals::default() {
            self.change(ino, |file| file.closed += reads);
        }
    }

    /// The reads through closed handles on a file, and its slow reads, the slowest first.
    pub(crate) fn of_file(&self, ino: u64) -> (ReadTotals, Vec<SlowRead>) {
        let state = self.state.lock();
        let file = state.files.get(&ino);
        file.map(|file| (file.closed, file.slow.clone())).unwrap_or_default()
    }

    /// The slow reads of all files, with their inodes, in no order.
    pub(crate) fn all(&self) -> Vec<(u64, SlowRead)> {
        let state = self.state.lock();
        let files = state.files.iter();
        files
            .flat_map(|(&ino, file)| file.slow.iter().map(move |read| (ino, read.clone())))
            .collect()
    }

    fn change(&self, ino: u64, change: impl FnOnce(&mut FileLog)) {
        let mut state = self.state.lock();
        if state.files.len() >= MOST_FILES && !state.files.contains_key(&ino) {
            let oldest = state
                .files
                .iter()
                .min_by_key(|(_, file)| file.used)
                .map(|(&ino, _)| ino);
            oldest.and_then(|oldest| state.files.remove(&oldest));
        }
        state.uses += 1;
        let used = state.uses;
        let file = state.files.entry(ino).or_default();
        file.used = used;
        change(file);
    }
}

impl FileLog {
    fn note(&mut self, read: SlowRead) {
        let now = read.began + read.took;
        let at = self.slow.partition_point(|slower| slower.took >= read.took);
        self.slow.insert(at, read);
        if self.slow.len() <= MOST_OF_FILE {
            return;
        }
        let is_old = |read: &SlowRead| now.duration_since(read.began).is_ok_and(|age| age > RECENT);
        let oldest = self.slow.iter().enumerate().filter(|(_, read)| is_old(read));
        let oldest = oldest.min_by_key(|(_, read)| read.began).map(|(at, _)| at);
        self.slow.remove(oldest.unwrap_or(MOST_OF_FILE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(took_ms: u64, at: u64) -> SlowRead {
        SlowRead {
            url: "http://h/f".to_owned(),
            offset: took_ms,
            len: 4096,
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + at),
            took: Duration::from_millis(took_ms),
            times: PhaseTimes::default(),
            reason: None,
            server: None,
            process: None,
            error: None,
        }
    }

    fn times(log: &ReadLog, ino: u64) -> Vec<u128> {
        log.of_file(ino).1.iter().map(|read| read.took.as_millis()).collect()
    }

    #[test]
    fn slowest_reads_of_a_file_stay() {
        let log = ReadLog::default();
        (0..40).for_each(|number| log.note(7, read(100 + number * 7 % 40, 0)));
        let expected: Vec<u128> = (0..MOST_OF_FILE as u128).map(|at| 139 - at).collect();
        assert_eq!(times(&log, 7), expected);
        assert_eq!(log.all().len(), MOST_OF_FILE);
        assert!(times(&log, 8).is_empty());
    }

    #[test]
    fn old_read_makes_way_for_a_faster_one() {
        let log = ReadLog::default();
        log.note(7, read(9000, 0));
        log.note(7, read(8000, 10));
        (0..15).for_each(|_| log.note(7, read(100, 5000)));
        let left = times(&log, 7);
        assert_eq!((left.len(), left[0]), (MOST_OF_FILE, 8000));
        log.note(7, read(50, 5001));
        assert_eq!(times(&log, 7)[0], 100);
        log.note(7, read(40, 5002));
        assert_eq!(times(&log, 7).last(), Some(&50), "the fastest makes way if none is old");
    }

    #[test]
    fn file_used_longest_ago_makes_way() {
        let log = ReadLog::default();
        for ino in 0..MOST_FILES as u64 {
            log.note(ino, read(100, 0));
        }
        let reads = ReadTotals {
            hit_reads: 3,
            ..ReadTotals::default()
        };
        log.note_closed(0, reads);
        log.note_closed(5000, ReadTotals::default());
        assert_eq!(times(&log, 1).len(), 1, "a file without reads takes no place");
        log.note(9000, read(100, 0));
        assert_eq!((times(&log, 1).len(), times(&log, 9000).len()), (0, 1));
        assert_eq!((log.of_file(0).0.hit_reads, log.all().len()), (3, MOST_FILES));
    }
}
