//! The page that processes share.

use super::super::page::USED;
use super::*;
use proptest::prelude::*;

fn joined(limit: u64, recorded: u64) -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::join(dir.path(), limit, recorded).unwrap();
    (dir, ledger)
}

fn reserves(ledger: &Ledger, bytes: u64, most: u64) -> bool {
    ledger.try_reserve(bytes, most).unwrap()
}

#[test]
fn what_one_reserves_the_other_can_t_have() {
    let (dir, one) = joined(100, 0);
    let other = Ledger::join(dir.path(), 100, 0).unwrap();
    assert!(reserves(&one, 60, 100) && !reserves(&other, 41, 100) && reserves(&other, 40, 100));
    assert_eq!(
        (one.space().total(), other.space().total(), one.space().reserved),
        (100, 100, 100)
    );
    one.settle(60, 10);
    assert_eq!((other.space().total(), other.space().reserved), (50, 40));
    assert!(one.has_others() && other.has_others());
    drop(one);
    assert!(!other.has_others());
}

#[test]
fn the_smallest_size_counts_for_all_for_as_long_as_its_owner_lives() {
    let (dir, one) = joined(100, 0);
    let other = Ledger::join(dir.path(), 70, 0).unwrap();
    assert_eq!(one.space().limit, 70);
    drop(other);
    one.begin_audit();
    assert_eq!(one.space().limit, 100);
}

#[test]
fn first_user_takes_the_larger_count() {
    let (dir, one) = joined(1000, 0);
    assert!(reserves(&one, 60, 1000) && reserves(&one, 30, 1000));
    one.settle(60, 60);
    // As after a kill: only the locks are released.
    let copy = std::fs::read(dir.path().join("usage")).unwrap();
    drop(one);
    std::fs::write(dir.path().join("usage"), copy).unwrap();
    let next = Ledger::join(dir.path(), 1000, 50).unwrap();
    assert_eq!(next.space().total(), 60);
    drop(next);
    assert_eq!(Ledger::join(dir.path(), 1000, 500).unwrap().space().total(), 500);
}

#[test]
fn a_file_of_something_else_counts_as_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("usage"), [7; 5000]).unwrap();
    assert_eq!(Ledger::join(dir.path(), 1000, 33).unwrap().space().total(), 33);
}

#[test]
fn excess_mounts_are_told_the_users() {
    let (dir, _one) = joined(1000, 0);
    let _more: Vec<_> = (1..SLOTS).map(|_| Ledger::join(dir.path(), 1000, 0).unwrap()).collect();
    let refused = Ledger::join(dir.path(), 1000, 0).unwrap_err().to_string();
    assert!(refused.contains(&std::process::id().to_string()), "{refused}");
}

#[test]
fn outside_process_triggers_an_audit() {
    let (dir, one) = joined(1000, 0);
    assert!(one.claim_audit(500) && !one.claim_audit(500), "the first one at once");
    let wanted = one.rung(Bell::Wanted);
    demand_audit(dir.path()).unwrap();
    assert!(one.rung(Bell::Wanted) != wanted && one.claim_audit(500) && !one.claim_audit(500));
    drop(one);
    let elsewhere = tempfile::tempdir().unwrap();
    demand_audit(elsewhere.path()).unwrap();
    assert!(!elsewhere.path().join("usage").exists());
    std::fs::write(elsewhere.path().join("usage"), "short").unwrap();
    demand_audit(elsewhere.path()).unwrap();
}

#[test]
fn waiter_for_space_is_woken_by_another_process() {
    let (dir, one) = joined(1000, 0);
    let other = Ledger::join(dir.path(), 1000, 0).unwrap();
    let seen = one.rung(Bell::Relieved);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while one.rung(Bell::Relieved) == seen {
                one.wait(Bell::Relieved, seen, Duration::from_secs(60));
            }
        });
        other.ring(Bell::Relieved);
    });
}

/// What this process has counted stays counted, and the processes of the directory still see each
/// other.
#[test]
fn truncated_page_is_rebuilt_by_its_users() {
    let (dir, one) = joined(1000, 0);
    let other = Ledger::join(dir.path(), 700, 0).unwrap();
    assert!(reserves(&one, 60, 1000) && one.claim_audit(500) && !one.claim_audit(500));
    let file = File::options().write(true).open(dir.path().join("usage")).unwrap();
    for length in [0, 100] {
        file.set_len(length).unwrap();
        assert_eq!(one.space().used, 60, "it is looked at");
        one.settle(0, 0);
        assert_eq!(
            (one.space().used, one.space().limit, one.space().reserved),
            (60, 700, 60),
            "cut to {length}"
        );
        assert!(one.claim_audit(500), "others may have counted since");
        other.settle(0, 0);
        assert!(one.has_others() && other.has_others() && other.space().used == 60);
    }
    // A newcomer reads it first.
    file.set_len(0).unwrap();
    let third = Ledger::join(dir.path(), 900, 0).unwrap();
    one.settle(60, 60);
    other.settle(0, 0);
    assert!(one.has_others() && third.has_others() && third.living().len() == 3);
    assert_eq!((one.space().reserved, third.claim_audit(500)), (0, true));
}

/// It was stopped, for example, or the file can't be written. Nothing is reserved then, and changes
/// are counted later.
#[test]
fn a_process_that_keeps_the_page_locked_stops_no_other() {
    let (dir, one) = joined(1000, 0);
    assert!(reserves(&one, 60, 1000));
    let file = File::options()
        .read(true)
        .write(true)
        .open(dir.path().join("usage"))
        .unwrap();
    let stopped = Changing::begin(&file).unwrap();
    assert!(one.try_reserve(1, 1000).is_err());
    let seen = one.rung(Bell::Wanted);
    one.ring(Bell::Wanted);
    one.wait(Bell::Wanted, seen, Duration::from_secs(3600));
    assert_ne!(one.rung(Bell::Wanted), seen, "those in this process hear it");
    one.settle(60, 40);
    assert_eq!(
        (one.space().used, one.space().reserved),
        (40, 0),
        "as this one knows it"
    );
    drop(stopped);
    assert_eq!(file::read(&file).unwrap()[USED], 60);
    assert!(reserves(&one, 5, 1000));
    assert_eq!(file::read(&file).unwrap()[USED], 45);
    assert_eq!((one.space().used, one.space().reserved), (45, 5));
}

proptest! {
    /// For all sequences of reserve, settle and free: the count is the sum of what the processes
    /// hold, and never above the limit.
    #[test]
    fn the_count_is_the_sum_of_what_is_held(steps in prop::collection::vec((0usize..3, 0u8..3, 1u64..50), 1..200)) {
        const MOST: u64 = 200;
        let dir = tempfile::tempdir().unwrap();
        let ledgers: Vec<_> = (0..3).map(|_| Ledger::join(dir.path(), MOST, 0).unwrap()).collect();
        let (mut reserved, mut held) = ([0u64; 3], 0u64);
        for (who, what, bytes) in steps {
            match what {
                0 => {
                    let fits = reserved.iter().sum::<u64>() + held + bytes <= MOST;
                    prop_assert_eq!(reserves(&ledgers[who], bytes, MOST), fits);
                    reserved[who] += if fits { bytes } else { 0 };
                }
                1 => {
                    let grown = bytes.min(reserved[who]);
                    ledgers[who].settle(reserved[who], grown as i64);
                    reserved[who] = 0;
                    held += grown;
                }
                _ => {
                    let freed = bytes.min(held);
                    ledgers[who].settle(0, -(freed as i64));
                    held -= freed;
                }
            }
            prop_assert_eq!(ledgers[0].space().used, reserved.iter().sum::<u64>() + held);
            prop_assert_eq!(ledgers[0].space().reserved, reserved.iter().sum::<u64>());
        }
    }
}
