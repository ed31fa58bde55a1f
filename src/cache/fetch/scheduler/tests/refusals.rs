//! The cause of a refused request, and what follows from it.

use super::*;
use crate::http::HttpErrorKind;
use crate::origin::Retry;

const UNAVAILABLE: HttpErrorKind = HttpErrorKind::Status {
    status: 503,
    retry_after: None,
};

/// A play with refused requests, and a clock.
struct Refusing {
    play: Play,
    now: Instant,
    /// Number of answers of the origin.
    answers: u64,
}

impl Refusing {
    fn with_slots(slots: usize) -> Refusing {
        Refusing {
            play: Play::with_slots(slots),
            now: Instant::now(),
            answers: 0,
        }
    }

    fn answers(&mut self, index: usize) {
        self.answers += 1;
        let order = &self.play.started[index];
        self.play.scheduler.answered(order.id, &order.entry.origin);
    }

    /// The fetch number `index` is refused, a second after its request.
    fn refuses(&mut self, index: usize, kind: &HttpErrorKind) -> AfterRefusal {
        let asked = self.now;
        self.now += Duration::from_secs(1);
        self.refuses_what_was_asked(asked, index, kind)
    }

    fn refuses_what_was_asked(&mut self, asked: Instant, index: usize, kind: &HttpErrorKind) -> AfterRefusal {
        self.play.scheduler.set_now(self.now);
        let refusal = Refusal {
            kind,
            asked,
            answers: self.answers,
            had_others: false,
            retry: &Retry::new(2),
        };
        let (next, _) = {
            let order = &self.play.started[index];
            self.play.scheduler.refused(order.id, &order.entry.origin, &refusal)
        };
        self.play.note();
        next
    }

    /// Time passes until an entry has rested.
    fn rests(&mut self, entry: &Arc<CacheEntry>, next: AfterRefusal) {
        let AfterRefusal::RestUntil(until) = next else {
            panic!("{next:?}");
        };
        self.now = until;
        self.play.scheduler.rested(entry.id, until);
        self.play.note();
    }

    fn connections(&self) -> usize {
        self.play.scheduler.status()[0].connections
    }
}

#[test]
fn refusal_of_all_is_attributed_to_the_origin() {
    let mut refusing = Refusing::with_slots(4);
    refusing.play.wait(&known("a", 4), 0..1, 1);
    for _ in 0..5 {
        assert_eq!(refusing.refuses(0, &UNAVAILABLE), AfterRefusal::WaitForOrigin);
    }
    assert_eq!((refusing.connections(), refusing.play.started.len()), (4, 1));
}

#[test]
fn origin_failure_yields_to_another_file() {
    let mut refusing = Refusing::with_slots(1);
    let (bad, good) = (known("a", 1), known("a", 1));
    refusing.play.wait(&bad, 0..1, 1);
    refusing.play.wait(&good, 0..1, 2);
    let next = refusing.refuses(0, &UNAVAILABLE);
    let AfterRefusal::YieldUntil(until) = next else {
        panic!("{next:?}");
    };
    assert_eq!(refusing.play.started[1].entry.id, good.id);
    refusing.play.scheduler.rested(bad.id, until);
    refusing.answers(1);
    refusing.play.completes(1, C);
    assert_eq!(refusing.play.started[2].entry.id, bad.id);
    let next = refusing.refuses(2, &UNAVAILABLE);
    assert!(matches!(next, AfterRefusal::RestUntil(_)), "it is the file: {next:?}");
}

#[test]
fn overload_refusal_frees_the_slot_and_is_retried() {
    let mut refusing = Refusing::with_slots(4);
    let entries: Vec<_> = (0..5).map(|_| known("a", 1)).collect();
    for (entry, waiter) in entries.iter().zip(1..) {
        refusing.play.wait(entry, 0..C, waiter);
    }
    assert_eq!(refusing.play.started.len(), 4);
    refusing.answers(0);
    refusing.answers(1);
    let asked = refusing.now;
    refusing.now += Duration::from_secs(1);
    let next = [2, 3].map(|index| refusing.refuses_what_was_asked(asked, index, &UNAVAILABLE));
    assert_eq!(refusing.connections(), 2, "lowered once, to what is served");
    assert_eq!(refusing.play.started.len(), 5, "one alone might have been the file");
    assert_eq!(
        refusing.play.started[4].entry.id, entries[4].id,
        "an entry that rests is not next"
    );
    refusing.play.completes(0, C);
    assert_eq!(refusing.play.started.len(), 5, "and both slots are taken");
    for (entry, next) in entries[2..4].iter().zip(next) {
        refusing.rests(entry, next);
    }
    refusing.play.completes(1, C);
    assert_eq!(refusing.play.started[5].entry.id, entries[2].id);
    for index in 4..7 {
        refusing.play.completes(index, C);
    }
    assert_eq!(refusing.play.woken_well().len(), 5);
    assert!(refusing.play.scheduler.is_idle());
}

#[test]
fn failing_file_lowers_no_limit() {
    let mut refusing = Refusing::with_slots(4);
    let (good, bad) = (known("a", 64), known("a", 1));
    refusing.play.wait(&good, 0..64 * C, 1);
    assert_eq!(refusing.play.started.len(), 4);
    let numbers = 0..4;
    numbers.for_each(|index| refusing.answers(index));
    refusing.play.completes(0, 16 * C);
    refusing.play.wait(&bad, 0..1, 2);
    let mut tries = 0;
    loop {
        let index = refusing.play.started.len() - 1;
        assert_eq!(refusing.play.started[index].entry.id, bad.id);
        match refusing.refuses(index, &UNAVAILABLE) {
            AfterRefusal::Fail => break,
            next => refusing.rests(&bad, next),
        }
        tries += 1;
        assert_eq!(
            refusing.connections(),
            4,
            "one file alone costs the others no connection"
        );
        if tries == 1 {
            refusing.play.completes(1, 32 * C);
        }
        // Another file is answered, again and again.
        refusing.answers += 1;
    }
    assert_eq!(tries, 3, "once for the number, and two retries");
    assert_eq!(refusing.connections(), 4);
}

#[test]
fn simultaneous_failures_cost_one_try() {
    let mut refusing = Refusing::with_slots(4);
    let (good, bad) = (known("a", 1), known("a", 48));
    refusing.play.wait(&good, 0..C, 1);
    refusing.answers(0);
    refusing.play.wait(&bad, 0..48 * C, 2);
    assert_eq!(refusing.play.started.len(), 4);
    let gateway = HttpErrorKind::Status {
        status: 502,
        retry_after: None,
    };
    let asked = refusing.now;
    refusing.now += Duration::from_secs(1);
    for index in 1..4 {
        let next = refusing.refuses_what_was_asked(asked, index, &gateway);
        assert!(matches!(next, AfterRefusal::RestUntil(_)), "{next:?}");
    }
    assert_eq!(refusing.connections(), 4, "no server says so for the number");
}

#[test]
fn retry_after_applies_to_its_file_only() {
    let mut refusing = Refusing::with_slots(2);
    let (good, patient) = (known("a", 1), known("a", 1));
    refusing.play.wait(&good, 0..1, 1);
    refusing.answers(0);
    refusing.play.wait(&patient, 0..1, 2);
    let later = HttpErrorKind::Status {
        status: 429,
        retry_after: Some(Duration::from_secs(20)),
    };
    let next = refusing.refuses(1, &later);
    let AfterRefusal::RestUntil(until) = next else {
        panic!("{next:?}");
    };
    assert!(until >= refusing.now + Duration::from_secs(20));
    refusing.play.completes(0, C);
    assert_eq!(refusing.play.started.len(), 2, "there is a slot, and it is not asked");
    refusing.rests(&patient, next);
    assert_eq!(refusing.play.started.len(), 3);
}

const DENIED: HttpErrorKind = HttpErrorKind::Denied(403);

#[test]
fn denied_alone_is_believed_at_once() {
    let mut refusing = Refusing::with_slots(4);
    refusing.play.wait(&known("a", 1), 0..C, 1);
    assert_eq!(refusing.refuses(0, &DENIED), AfterRefusal::Fail);
}

#[test]
fn denial_under_load_is_retried_then_accepted() {
    let mut refusing = Refusing::with_slots(4);
    let (good, bad) = (known("a", 48), known("a", 1));
    refusing.play.wait(&good, 0..48 * C, 1);
    (0..3).for_each(|index| refusing.answers(index));
    (0..3).for_each(|index| refusing.play.writes(index, index as u64 * 16 * C + C));
    refusing.play.wait(&bad, 0..C, 2);
    let mut tries = 0;
    loop {
        tries += 1;
        let index = refusing.play.started.len() - 1;
        match refusing.refuses(index, &DENIED) {
            AfterRefusal::Fail => break,
            next => refusing.rests(&bad, next),
        }
    }
    assert!((2..=12).contains(&tries), "{tries}");
    assert_eq!(refusing.connections(), 4, "its neighbours keep theirs");
}

#[test]
fn simultaneous_refusals_use_no_retries() {
    let mut refusing = Refusing::with_slots(1);
    let entries: Vec<_> = (0..4).map(|_| known("a", 1)).collect();
    for (entry, waiter) in entries.iter().zip(1..) {
        refusing.play.wait(entry, 0..C, waiter);
    }
    refusing.play.scheduler.set_now(refusing.now);
    refusing.answers(0);
    refusing.play.completes(0, C);
    // One after another is refused, twelve times in all, and each has two retries.
    for _ in 0..12 {
        let index = refusing.play.started.len() - 1;
        let entry = Arc::clone(&refusing.play.started[index].entry);
        let asked = refusing.now;
        refusing.now += Duration::from_millis(10);
        refusing.play.scheduler.set_now(refusing.now);
        let next = refusing.refuses_what_was_asked(asked, index, &UNAVAILABLE);
        let (AfterRefusal::RestUntil(until) | AfterRefusal::YieldUntil(until)) = next else {
            panic!("{next:?}");
        };
        refusing.now = until.max(refusing.play.scheduler.next_due().unwrap_or(until));
        refusing.play.scheduler.set_now(refusing.now);
        refusing.play.scheduler.rested(entry.id, until);
        refusing.play.scheduler.time_passed();
        refusing.play.note();
    }
}
