//! The origin whose slot a fetch takes when redirects lead elsewhere.

use super::*;

fn origin_named(name: &str) -> Origin {
    listed(name, 0).origin.clone()
}

impl Play {
    /// A redirect leads the fetch number `index` to the origin of this name.
    fn leads(&mut self, index: usize, to: &str) -> bool {
        let stays = self.scheduler.leads_to(self.started[index].id, &origin_named(to));
        self.note();
        stays
    }

    fn is_answered_by(&mut self, index: usize, origin: &str) {
        self.scheduler.answered(self.started[index].id, &origin_named(origin));
        self.note();
    }

    /// Number of fetches with slots of the origin of this name.
    fn running(&self, name: &str) -> usize {
        let name = origin_named(name).to_string();
        let status = self.scheduler.status();
        status.iter().find(|at| at.origin == name).map_or(0, |at| at.fetches)
    }

    /// Readers of `files` files of "a" that each lead to "b". Returns the files.
    fn reads_led(&mut self, files: u64) -> Vec<Arc<CacheEntry>> {
        let files: Vec<_> = (0..files).map(|_| known("a", 1)).collect();
        for (waiter, file) in (1..).zip(&files) {
            self.wait(file, 0..C, waiter);
        }
        let mut index = 0;
        while index < self.started.len() {
            self.leads(index, "b");
            index += 1;
        }
        files
    }
}

#[test]
fn redirects_to_a_silent_origin_free_own_slots() {
    for slots in [1, 2] {
        let mut play = Play::with_slots(slots);
        play.reads_led(40);
        assert_eq!((play.running("a"), play.running("b")), (0, slots));
        assert_eq!(play.started.len(), 40, "each of them has asked once where it leads");
        play.wait(&known("a", 1), 0..C, 100);
        play.completes(40, C);
        assert_eq!(play.woken_well(), [100], "no period has passed");
    }
}

#[test]
fn redirected_file_without_a_slot_starts_later() {
    let mut play = Play::with_slots(1);
    play.reads_led(3);
    let stopped: Vec<_> = [1, 2].map(|index: usize| play.started[index].id).into();
    assert_eq!(play.stopped, stopped);
    for number in [0, 3, 4] {
        assert_eq!((play.running("a"), play.running("b")), (0, 1));
        play.completes(number, C);
    }
    assert_eq!(play.woken_well(), [1, 2, 3]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn each_target_has_slots_of_its_own() {
    let mut play = Play::with_slots(2);
    for (waiter, target) in ["b", "c", "b", "c"].into_iter().enumerate() {
        play.wait(&known("a", 1), 0..C, waiter as u64);
        assert!(play.leads(waiter, target), "there is room");
    }
    assert_eq!(["a", "b", "c"].map(|name| play.running(name)), [0, 2, 2]);
}

#[test]
fn file_is_queued_at_its_last_redirect_target() {
    let mut play = Play::with_slots(1);
    let file = known("a", 2);
    play.wait(&file, 0..C, 1);
    assert!(play.leads(0, "b"));
    play.completes(0, C);
    play.wait(&known("a", 1), 0..C, 2);
    assert_eq!(play.running("a"), 1);
    play.wait(&file, C..2 * C, 3);
    assert_eq!((play.running("a"), play.running("b")), (1, 1));
}

#[test]
fn answer_of_own_origin_takes_its_slot() {
    let mut play = Play::with_slots(1);
    let file = known("a", 2);
    play.wait(&file, 0..C, 1);
    assert!(play.leads(0, "b"));
    play.is_answered_by(0, "a");
    assert_eq!((play.running("a"), play.running("b")), (1, 0));
    play.completes(0, C);
    play.wait(&file, C..2 * C, 2);
    assert_eq!((play.running("a"), play.running("b")), (1, 0));
}

#[test]
fn redirected_reader_preempts_read_ahead() {
    let mut play = Play::with_slots(1);
    let ahead = known("b", 100);
    play.request(&ahead, 0..100, Priority::Medium);
    play.wait(&known("a", 1), 0..C, 1);
    assert!(play.leads(1, "b"));
    assert_eq!(play.stopped, [play.started[0].id]);
    // And a fetch that no reader waits for takes none.
    play.request(&known("a", 1), 0..1, Priority::Low);
    assert!(!play.leads(2, "b"));
    assert_eq!((play.running("a"), play.running("b")), (0, 1));
}

#[test]
fn connection_limit_is_learned_at_the_redirect_target() {
    let mut play = Play::with_slots(4);
    for waiter in 0..4 {
        play.wait(&known("a", 1), 0..C, waiter);
        assert!(play.leads(waiter as usize, "b"));
    }
    let kind = crate::http::HttpErrorKind::Status {
        status: 503,
        retry_after: None,
    };
    play.is_answered_by(0, "b");
    let now = Instant::now();
    for index in [1, 2] {
        let refusal = Refusal {
            kind: &kind,
            asked: now,
            answers: 1,
            had_others: false,
            retry: &crate::origin::Retry::new(2),
        };
        let id = play.started[index].id;
        play.scheduler.refused(id, &origin_named("b"), &refusal);
        play.note();
    }
    let status = play.scheduler.status();
    let connections = |name: &str| {
        let name = origin_named(name).to_string();
        status.iter().find(|at| at.origin == name).map(|at| at.connections)
    };
    assert_eq!(connections("a"), Some(4));
    assert!(connections("b") < Some(4), "{status:?}");
}

#[test]
fn silent_fetch_gives_way_at_redirect_target() {
    let mut play = Play::with_slots(1);
    play.reads_led(1);
    (0..4).for_each(|_| play.scheduler.period_passed());
    let good = known("b", 1);
    play.wait(&good, 0..C, 2);
    assert_eq!(play.started.last().map(|order| order.entry.id), Some(good.id));
    play.completes(1, C);
    assert_eq!(play.woken_well(), [2]);
}

/// Two slots of "a" and two of "b" are taken, and a reader of another file waits for one of "a".
struct Moved {
    play: Play,
    /// Its queue is at "b", and a fetch of it has a slot of "a".
    file: Arc<CacheEntry>,
    /// The file of the reader that waits.
    urgent: Arc<CacheEntry>,
    /// The number of a fetch at "b".
    ends: usize,
}

impl Moved {
    /// `begin` begins the fetch at "a" that `file` keeps.
    fn with(begin: impl FnOnce(&mut Play, &Arc<CacheEntry>)) -> Moved {
        let (mut play, file, urgent) = (Play::with_slots(2), known("a", 100), known("a", 1));
        begin(&mut play, &file);
        play.wait(&file, 80 * C..81 * C, 1);
        assert!(play.leads(1, "b"));
        play.completes(1, 81 * C);
        for (waiter, name) in [(2, "a"), (3, "b"), (4, "b")] {
            play.wait(&known(name, 1), 0..C, waiter);
        }
        play.wait(&urgent, 0..C, 5);
        assert_eq!((play.running("a"), play.running("b")), (2, 2));
        assert_eq!((play.started.len(), play.stopped.len()), (5, 0));
        let ends = 4;
        Moved {
            play,
            file,
            urgent,
            ends,
        }
    }

    /// A fetch at "b" ends. The fetch of `file` at "a" gives way to the reader's.
    fn gives_way(&mut self) {
        self.play.completes(self.ends, C);
        assert_eq!(self.play.stopped, [self.play.started[0].id]);
        let begun = self.play.started.iter().skip(5);
        assert!(begun.map(|order| order.entry.id).any(|id| id == self.urgent.id));
    }
}

/// The wait for a chunk at "b" ends with that chunk, which another entry has brought. So no reader is
/// blocked on the fetch at "a" any more.
#[test]
fn fetch_elsewhere_gives_way_after_a_wake() {
    let mut moved = Moved::with(|play, file| play.wait(file, 0..C, 10));
    moved.play.wait(&moved.file, 0..2 * C, 11);
    let presence = &moved.file.settled().unwrap().presence;
    assert!(presence.insert(0) && presence.insert(1));
    moved.gives_way();
    assert!(moved.play.woken_well().ends_with(&[10, 11]));
}

/// The only fetch of a stream is protected until a second one begins at "b".
#[test]
fn fetch_elsewhere_gives_way_after_a_start() {
    let mut moved = Moved::with(|play, file| {
        play.request(file, 0..16, Priority::High);
        play.writes(0, C);
    });
    moved.play.request(&moved.file, 40..41, Priority::High);
    moved.gives_way();
}
