//! A clock for the age of unused data (`--max-age`) that is immune to changes of the system's clock.
//!
//! **Elapsed time counts, not jumps of the system's clock.** While this process runs, elapsed time is the kernel's
//! CLOCK_BOOTTIME, which can't be set and continues in suspend. From one process to the next it follows the system's
//! clock, but never backwards: the cache directory has the last recorded time of both clocks ([`save`]).
//!
//! The reason: a machine without a battery-backed clock starts in 1970, or at the time of its shutdown, and the network
//! corrects it a minute later. By the system's clock alone, all cached data would then be years old.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// The file in the cache directory: seconds of this clock, a space, and seconds of the system's clock at the same
/// moment.
const FILE: &str = "clock";

/// Seconds after which the time is recorded again, unless the clocks differ by [`APART`] earlier.
const OFTEN: i64 = 600;
const APART: i64 = 60;

/// Seconds of both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    passed: i64,
    system: i64,
}

impl Noted {
    /// This clock's time at a later moment of the system's clock.
    fn passed_at(self, system: i64) -> i64 {
        self.passed + (system - self.system).max(0)
    }

    fn is_worth_replacing(self, now: Noted) -> bool {
        let apart = (now.passed - now.system) - (self.passed - self.system);
        now.passed - self.passed >= OFTEN || apart.abs() >= APART
    }

    fn read(folder: &Path) -> Option<Noted> {
        let text = fs::read_to_string(file(folder)).ok()?;
        let (passed, system) = text.trim().split_once(' ')?;
        let noted = Noted {
            passed: passed.parse().ok()?,
            system: system.parse().ok()?,
        };
        (0..=i64::from(u32::MAX)).contains(&noted.passed).then_some(noted)
    }
}

/// This clock's start: its time, and CLOCK_BOOTTIME then.
static BEGAN: OnceLock<(Duration, Duration)> = OnceLock::new();

/// Continues from the time that an earlier process recorded. Call it once, before the first [`now`].
pub(crate) fn restore(folder: &Path) {
    let system = seconds(since_1970());
    let passed = Noted::read(folder).map(|noted| noted.passed_at(system));
    let passed = passed.map_or_else(since_1970, |passed| Duration::from_secs(passed.max(0).cast_unsigned()));
    let _ = BEGAN.set((passed, boot_time()));
}

/// Now, as a date: the system's, unless that clock was set meanwhile.
pub(crate) fn now() -> SystemTime {
    let (time, boot) = BEGAN.get_or_init(|| (since_1970(), boot_time()));
    UNIX_EPOCH + *time + boot_time().saturating_sub(*boot)
}

/// Records the time for later processes, if the recorded time is out of date.
pub(crate) fn save(folder: &Path) {
    static SAVED: Mutex<Option<Noted>> = Mutex::new(None);
    let passed = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Noted {
        passed: seconds(passed),
        system: seconds(since_1970()),
    };
    let mut saved = SAVED.lock();
    if saved.is_none_or(|saved| saved.is_worth_replacing(now)) {
        // If this fails, the next process uses the system's clock.
        let _ = fs::write(file(folder), format!("{} {}\n", now.passed, now.system));
        *saved = Some(now);
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds(time: Duration) -> i64 {
    time.as_secs().cast_signed()
}

/// CLOCK_BOOTTIME (clock_gettime(2)).
fn boot_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure; without such a clock, it stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const YEAR: i64 = 365 * 24 * HOUR;

    #[test]
    fn a_jump_of_the_systems_clock_is_no_time_that_passed() {
        // Started in 1970; the clock was set right an hour later.
        let noted = Noted {
            passed: HOUR,
            system: 56 * YEAR,
        };
        assert_eq!(noted.passed_at(56 * YEAR + 2 * HOUR), 3 * HOUR, "the next process");
        assert_eq!(noted.passed_at(60), HOUR, "the next boot, in 1970 again");
    }

    #[test]
    fn clock_jump_or_elapsed_time_is_detected() {
        let noted = Noted {
            passed: 5000,
            system: 7000,
        };
        let after = |passed, system| noted.is_worth_replacing(Noted { passed, system });
        assert!(!after(5100, 7100));
        assert!(after(5000 + OFTEN, 7000 + OFTEN));
        assert!(after(5001, 7001 + YEAR) && after(5001, 1));
    }

    #[test]
    fn what_is_no_time_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Noted::read(dir.path()), None);
        for text in ["", "x y", "5", "-5 7", "99999999999999 7", "5 7 9"] {
            fs::write(file(dir.path()), text).unwrap();
            assert_eq!(Noted::read(dir.path()), None, "{text:?}");
        }
        save(dir.path());
        let noted = Noted::read(dir.path()).unwrap();
        assert!((noted.passed - noted.system).abs() < APART, "{noted:?}");
    }
}
