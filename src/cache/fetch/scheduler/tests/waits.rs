//! Waiters: what they wait for, and what happens when they leave.

use super::*;

#[test]
fn a_queued_chunk_is_promoted() {
    let mut play = Play::with_slots(1);
    let (running, late) = (known("a", 1), known("a", 100));
    play.wait(&running, 0..C, 1);
    play.request(&late, 0..100, Priority::Low);
    play.request(&late, 50..51, Priority::Medium);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 50..66);
}

#[test]
fn a_running_fetch_is_promoted() {
    let mut play = Play::with_slots(2);
    let (low, promoted, urgent) = (known("a", 16), known("a", 16), known("a", 1));
    play.request(&promoted, 0..16, Priority::Low);
    play.request(&low, 0..16, Priority::Low);
    play.request(&promoted, 3..4, Priority::High);
    play.wait(&urgent, 0..C, 1);
    assert_eq!(play.stopped, [play.started[1].id]);
}

#[test]
fn a_request_for_less_does_not_demote() {
    let mut play = Play::with_slots(1);
    let (running, late) = (known("a", 1), known("a", 10));
    play.wait(&running, 0..C, 1);
    play.request(&late, 0..2, Priority::Low);
    play.request(&late, 8..10, Priority::High);
    play.request(&late, 0..10, Priority::Medium);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 8..10);
}

#[test]
fn long_wait_does_not_cut_its_fetch() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.wait(&entry, 0..16 * C, 1);
    play.wait(&entry, 0..C, 2);
    assert_eq!(play.starts(), [0..16]);
}

#[test]
fn two_waiters_of_a_range_share_one_fetch() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 0..C, 2);
    play.completes(0, C);
    assert_eq!((play.starts(), play.woken_well()), (vec![0..1], vec![1, 2]));
    assert!(play.scheduler.is_idle());
}

#[test]
fn chunk_of_another_entry_wakes_a_waiter() {
    let mut play = Play::with_slots(1);
    let (running, queued) = (known("a", 1), known("a", 100));
    play.wait(&running, 0..C, 1);
    play.wait(&queued, C..3 * C, 2);
    let presence = &queued.settled().unwrap().presence;
    assert!(presence.insert(1) && presence.insert(2));
    play.completes(0, C);
    assert_eq!((play.starts(), play.woken_well()), (vec![0..1], vec![1, 2]));
    assert!(play.scheduler.is_idle());
}

#[test]
fn waiter_wakes_when_its_bytes_are_in() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.wait(&entry, 100..C + 300, 1);
    play.writes(0, C + 299);
    assert_eq!(play.woken_well(), [0; 0]);
    play.writes(0, C + 300);
    assert_eq!(play.woken_well(), [1], "in the middle of the chunk and of the fetch");
}

#[test]
fn waiter_behind_unreported_bytes_is_near_the_fetch() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.request(&entry, 0..16, Priority::High);
    let presence = &entry.settled().unwrap().presence;
    (0..9).for_each(|chunk| assert!(presence.insert(chunk)));
    play.wait(&entry, 10 * C..11 * C, 1);
    assert_eq!((play.trimmed.len(), play.starts()), (0, vec![0..16]));
}

#[test]
fn waiter_far_ahead_gets_its_own_fetch() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.request(&entry, 0..16, Priority::High);
    play.wait(&entry, 10 * C..11 * C, 1);
    assert_eq!(play.trimmed, [(play.started[0].id, 10 * C)]);
    assert_eq!(play.starts(), [0..16, 10..16]);
}

#[test]
fn waiter_close_ahead_waits_for_the_fetch() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.request(&entry, 0..16, Priority::High);
    play.writes(0, 6 * C);
    play.wait(&entry, 10 * C..11 * C, 1);
    assert_eq!((play.trimmed.len(), play.started.len()), (0, 1));
}

#[test]
fn overrun_of_a_shortened_fetch_is_kept() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.wait_with_ahead(&entry, 0..10 * C, 0..16, 1);
    play.wait(&entry, 15 * C..16 * C, 2);
    assert_eq!(play.trimmed, [(play.started[0].id, 15 * C)]);
    // It had read on before it received the cut.
    play.writes(0, 16 * C);
    assert_eq!(play.woken_well(), [1, 2]);
    play.ends(0, Ok(()));
    assert_eq!(play.starts(), [0..16]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn late_writes_of_a_stopped_fetch_wake_waiters() {
    let mut play = Play::with_slots(1);
    let (victim, urgent) = (known("a", 16), known("a", 1));
    play.request(&victim, 0..16, Priority::High);
    play.wait(&urgent, 0..C, 1);
    play.wait(&victim, 0..C, 2);
    play.writes(0, 3 * C);
    assert_eq!(play.woken_well(), [2]);
    play.completes(1, C);
    assert_eq!(play.starts()[2], 3..16, "and is not fetched again");
}

#[test]
fn failure_reaches_only_its_own_waiters() {
    let (mut play, entry) = (Play::with_slots(2), known("a", 100));
    play.wait(&entry, 0..2 * C, 1);
    play.wait(&entry, C..3 * C, 2);
    play.wait(&entry, 50 * C..51 * C, 3);
    play.wait(&entry, 70 * C..71 * C, 4);
    play.writes(0, C);
    play.ends(0, Err(failure()));
    assert_eq!(play.woken_with_error(), [1, 2]);
    for fetch in [1, 2, 3] {
        let end = play.started[fetch].bytes.end;
        play.completes(fetch, end);
    }
    assert_eq!(play.woken_well(), [3, 4]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn failed_first_fetch_does_not_affect_others() {
    let (mut play, entry) = (Play::with_slots(2), listed("a", 100 * C));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    play.ends(0, Err(failure()));
    assert_eq!(play.woken_with_error(), [1]);
    play.settles(&entry, 100 * C);
    play.completes(1, 51 * C);
    assert_eq!(play.woken_well(), [2]);
}

#[test]
fn changed_version_fails_all_waiters_of_its_entry() {
    let (mut play, entry, other) = (Play::with_slots(3), known("a", 100), known("a", 1));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    play.wait(&other, 0..C, 3);
    play.ends(0, Err(ReadError::Changed));
    assert_eq!(play.woken_with_error(), [1, 2]);
    assert_eq!(play.stopped, [play.started[1].id]);
    play.completes(2, C);
    assert_eq!(play.woken_well(), [3]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn prefetch_outlives_more_urgent_readers() {
    for ends in [0, 1] {
        let mut play = Play::with_slots(1);
        let (busy, entry, later) = (known("a", 1), known("a", 8), known("a", 8));
        play.wait(&busy, 0..C, 1);
        play.scheduler
            .wait(&entry, 0..8 * C, Priority::Medium, &[], WaiterId(2));
        play.request(&later, 0..8, Priority::High);
        if ends == 0 {
            play.request(&entry, 0..8, Priority::High);
            play.scheduler.end_read_ahead(entry.id);
        } else {
            play.wait(&entry, 0..8 * C, 3);
            play.scheduler.give_up(WaiterId(3), ReadError::Cancelled);
        }
        play.completes(0, C);
        assert_eq!(play.started[1].entry.id, later.id, "it is not in a hurry any more");
        play.completes(1, 8 * C);
        assert_eq!((play.started[2].entry.id, play.starts()[2].clone()), (entry.id, 0..8));
        play.completes(2, 8 * C);
        assert_eq!(play.woken_well(), [1, 2]);
        assert!(play.scheduler.is_idle());
    }
}

#[test]
fn preempted_fetch_restores_chunk_priorities() {
    let mut play = Play::with_slots(1);
    let (entry, urgent) = (known("a", 16), known("a", 1));
    play.scheduler.wait(&entry, 0..16 * C, Priority::Low, &[], WaiterId(1));
    play.request(&entry, 0..4, Priority::High);
    play.wait(&urgent, 0..C, 2);
    play.scheduler.end_read_ahead(entry.id);
    play.request(&known("a", 1), 0..1, Priority::Medium);
    play.completes(1, C);
    play.completes(2, C);
    assert_eq!(play.starts(), [0..16, 0..1, 0..1, 0..16]);
    assert_eq!(play.started[3].entry.id, entry.id);
}

#[test]
fn patient_waiter_gets_the_first_error() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.scheduler
        .wait(&entry, 0..100 * C, Priority::Medium, &[], WaiterId(1));
    play.note();
    play.ends(0, Err(failure()));
    assert_eq!(play.woken_with_error(), [1]);
    assert!(play.scheduler.is_idle() && play.started.len() == 1);
}

#[test]
fn cancelled_fetch_is_shortened_to_other_waiters() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.scheduler
        .wait(&entry, 0..100 * C, Priority::Medium, &[], WaiterId(1));
    play.note();
    play.scheduler
        .wait(&entry, 0..2 * C, Priority::Medium, &[], WaiterId(2));
    play.scheduler.give_up(WaiterId(1), ReadError::Cancelled);
    play.note();
    assert_eq!(
        play.trimmed,
        [(play.started[0].id, 2 * C)],
        "the other still needs so much"
    );
    play.completes(0, 2 * C);
    assert_eq!((play.woken_well(), play.woken_with_error()), (vec![2], vec![1]));
    assert!(play.scheduler.is_idle() && play.started.len() == 1);
}

#[test]
fn sixty_million_chunks_need_no_scan() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 60_000_000));
    play.wait(&entry, 0..u64::MAX, 1);
    // A look at each of them for each of these would take minutes.
    for fetch in 0..20 {
        let end = play.started[fetch].bytes.end;
        play.completes(fetch, end);
    }
    play.scheduler
        .give_up(WaiterId(1), ReadError::DeadlinePassed(Duration::ZERO));
    play.note();
    assert_eq!(play.woken_with_error(), [1]);
}

#[test]
fn cancelled_waiter_wakes_once_and_drops_its_chunks() {
    let (mut play, busy, entry) = (Play::with_slots(1), known("a", 1), known("a", 10));
    play.wait(&busy, 0..C, 1);
    play.wait(&entry, 0..2 * C, 2);
    play.wait(&entry, C..3 * C, 3);
    for _ in 0..2 {
        play.scheduler
            .give_up(WaiterId(2), ReadError::DeadlinePassed(Duration::ZERO));
        play.note();
    }
    assert_eq!(play.woken_with_error(), [2]);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 1..3);
    play.completes(1, 3 * C);
    assert!(play.scheduler.is_idle());
}

#[test]
fn ending_read_ahead_drops_queue_and_shortens_fetches() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.request(&entry, 0..50, Priority::High);
    play.writes(0, 3 * C + 1);
    play.scheduler.end_read_ahead(entry.id);
    play.note();
    assert_eq!(play.trimmed, [(play.started[0].id, 4 * C)]);
    play.completes(0, 4 * C);
    assert!(play.scheduler.is_idle());
    assert_eq!(play.started.len(), 1);
}

#[test]
fn ending_read_ahead_never_cuts_under_a_waiter() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.wait_with_ahead(&entry, 0..3 * C, 0..16, 1);
    play.scheduler.end_read_ahead(entry.id);
    play.note();
    assert_eq!(play.trimmed, [(play.started[0].id, 3 * C)]);
    play.completes(0, 3 * C);
    assert_eq!(play.woken_well(), [1]);
}

#[test]
fn ending_read_ahead_keeps_prefetches() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.request(&entry, 0..8, Priority::Medium);
    play.scheduler.end_read_ahead(entry.id);
    play.note();
    assert_eq!(play.trimmed, []);
}

/// What each blocked reader has waited for so far, the last at the end.
fn waits_of(play: &mut Play, waiter: u64) -> Vec<WaitsFor> {
    let changed = play.scheduler.take_changed_waits().into_iter();
    changed
        .filter(|(of, _)| of.0 == waiter)
        .map(|(_, waits_for)| waits_for)
        .collect()
}

#[test]
fn wait_turns_from_the_queue_to_its_fetch() {
    let mut play = Play::with_slots(1);
    let (running, queued) = (known("a", 1), known("a", 100));
    play.wait(&running, 0..C, 1);
    let first = play.started[0].id;
    assert_eq!(waits_of(&mut play, 1), [WaitsFor::Fetch(first)]);
    play.wait(&queued, 0..C, 2);
    assert_eq!(waits_of(&mut play, 2), [WaitsFor::Slot]);
    play.completes(0, C);
    let second = play.started[1].id;
    assert_eq!(waits_of(&mut play, 2), [WaitsFor::Fetch(second)]);
    play.request(&queued, 50..51, Priority::Low);
    assert_eq!(waits_of(&mut play, 2), [], "it is told once");
}

#[test]
fn wait_for_two_fetches_turns_to_the_second() {
    let (mut play, entry) = (Play::with_slots(2), known("a", 100));
    play.wait(&entry, 8 * C..9 * C, 1);
    play.wait(&entry, 0..9 * C, 2);
    let (far, near) = (play.started[0].id, play.started[1].id);
    assert_eq!(waits_of(&mut play, 2).last(), Some(&WaitsFor::Fetch(near)));
    play.writes(1, 8 * C);
    assert_eq!(waits_of(&mut play, 2), [WaitsFor::Fetch(far)]);
}

#[test]
fn wait_turns_to_the_rest_of_its_entry() {
    let (mut play, entry) = (Play::with_slots(2), known("a", 100));
    play.wait(&entry, 0..C, 1);
    let (fetch, until) = (play.started[0].id, Instant::now());
    play.scheduler.not_ready(fetch, until);
    play.note();
    assert_eq!(waits_of(&mut play, 1).last(), Some(&WaitsFor::Rest));
    play.scheduler.rested(entry.id, until);
    play.note();
    let again = play.started[1].id;
    assert_eq!(waits_of(&mut play, 1).last(), Some(&WaitsFor::Fetch(again)));
}
