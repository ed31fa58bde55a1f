//! Which fetches keep a slot when their server is slow, and which have to give it back.

use super::*;

impl Play {
    fn periods(&mut self, count: usize) {
        for _ in 0..count {
            self.scheduler.period_passed();
            self.note();
        }
    }

    /// The entry of each fetch, in the order in which they began.
    fn turns(&self) -> Vec<EntryId> {
        self.started.iter().map(|order| order.entry.id).collect()
    }
}

#[test]
fn silent_fetch_yields_its_slot_to_a_reader() {
    let mut play = Play::with_slots(1);
    let (silent, good) = (known("a", 4), known("a", 1));
    play.wait(&silent, 0..C, 1);
    play.periods(10);
    assert_eq!(play.stopped, [], "as long as no other entry waits");
    play.wait(&good, 0..C, 2);
    assert_eq!(play.turns(), [silent.id, good.id], "it has had its second");
    play.completes(1, C);
    assert_eq!(play.started.len(), 2, "the silent one is set back");
    play.periods(1);
    assert_eq!(play.turns(), [silent.id, good.id, silent.id], "a slot was left over");
    play.completes(2, C);
    assert_eq!(play.woken_well(), [2, 1]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn stalls_are_judged_by_rate() {
    let mut play = Play::with_slots(1);
    let (slow, good) = (known("a", 8), known("a", 1));
    play.wait(&slow, 0..8 * C, 1);
    play.wait(&good, 0..C, 2);
    for brought in [C / 8, C / 4, C / 2] {
        assert_eq!(play.stopped, []);
        play.writes(0, brought);
        play.periods(1);
    }
    assert_eq!(play.turns(), [slow.id, good.id]);
}

/// Bytes of a piece that has to be verified before it is written.
#[test]
fn received_bytes_prevent_a_stall_and_wake_no_reader() {
    for is_received in [true, false] {
        let mut play = Play::with_slots(1);
        let (slow, good) = (known("a", 1), known("a", 1));
        play.wait(&slow, 0..C, 1);
        play.wait(&good, 0..C, 2);
        for received in [C / 3, 2 * C / 3, C - 1, C - 1] {
            if is_received {
                let fetch = play.started[0].id;
                play.scheduler.received(slow.id, fetch, received);
            }
            play.periods(1);
        }
        assert_eq!(play.woken.len(), 0);
        assert_eq!(play.turns().len(), if is_received { 1 } else { 2 });
    }
}

#[test]
fn slow_fetch_near_a_chunk_edge_ends_there() {
    let mut play = Play::with_slots(1);
    let (slow, good) = (known("a", 8), known("a", 1));
    play.wait_with_ahead(&slow, 0..C, 0..8, 1);
    play.wait(&good, 0..C, 2);
    for quarters in 1..=3 {
        play.writes(0, quarters * 3 * C / 4);
        play.periods(1);
    }
    play.writes(0, 5 * C / 2);
    assert_eq!(
        (play.stopped.len(), play.trimmed.clone()),
        (0, vec![(play.started[0].id, 3 * C)])
    );
    play.completes(0, 3 * C);
    assert_eq!(play.turns(), [slow.id, good.id]);
}

#[test]
fn slow_server_doubles_the_stall_timeout() {
    let mut play = Play::with_slots(1);
    let entries = [known("a", 1), known("a", 1)];
    for (waiter, entry) in (1..).zip(&entries) {
        play.wait(entry, 0..C, waiter);
    }
    // Every answer takes ten periods.
    let mut periods = 0;
    while play.woken.len() < 2 {
        periods += 1;
        assert!(periods < 200, "{:?}", play.turns());
        play.periods(1);
        let last = play.started.len() - 1;
        if let Some((_, fetch)) = play.scheduler.table.fetch(play.started[last].id)
            && play.scheduler.table.period - fetch.began_in >= 10
        {
            play.completes(last, C);
        }
    }
    assert_eq!(play.woken_well().len(), 2);
}

#[test]
fn awaited_fetch_does_not_yield_to_read_ahead() {
    let mut play = Play::with_slots(1);
    let (silent, later, other) = (known("a", 1), known("a", 1), known("a", 1));
    play.scheduler.wait(&silent, 0..C, Priority::Medium, &[], WaiterId(1));
    play.note();
    play.request(&later, 0..1, Priority::Low);
    play.periods(10);
    assert_eq!(play.turns(), [silent.id]);
    play.request(&other, 0..1, Priority::Medium);
    assert_eq!(play.turns(), [silent.id, other.id], "one that is as urgent");
}

#[test]
fn throttled_fetch_does_not_count_as_stalled() {
    let mut play = Play::with_slots(1);
    play.scheduler.dispatcher.is_throttled = true;
    let (slow, good) = (known("a", 8), known("a", 1));
    play.wait(&slow, 0..8 * C, 1);
    play.writes(0, 1);
    play.wait(&good, 0..C, 2);
    play.periods(10);
    assert_eq!((play.stopped.len(), play.trimmed.len()), (0, 0));
}
