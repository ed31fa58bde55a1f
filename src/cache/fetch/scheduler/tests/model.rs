//! A model test: random sequences of events, played against the scheduler and a simulated
//! downloader. The downloader receives its orders late, writes past cuts, writes after it was
//! stopped, and fails. After each step all guarantees of the scheduler's module are checked.
//!
//! The model records by itself which bytes of which file were written. A waiter that is woken
//! without an error must find its bytes there.

mod checks;
mod events;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use events::{Event, event};

/// A remote file, and the bytes in its data file by the model's own record.
struct File {
    entry: Arc<CacheEntry>,
    size: u64,
    ignores_range: bool,
    present: u64,
    written: RangeSet<u64>,
    /// Bytes that were evicted at some time: a reader of them checks whether they are still there.
    evicted: RangeSet<u64>,
    /// True if anything of it was requested other than by readers and for their windows.
    was_asked_for: bool,
}

/// A fetch as the downloader sees it.
struct Running {
    file: usize,
    /// Where it began, and how far it has written.
    start: u64,
    position: u64,
    /// Its end, as far as it has received it, and the real one.
    heard_end: u64,
    end: u64,
    is_answered: bool,
    is_linear: bool,
    is_stopped: bool,
    /// True if anything was written that was not reported to the scheduler.
    has_news: bool,
}

struct World {
    scheduler: Scheduler,
    /// Chunks that come in the time of a round trip.
    round_trip: u64,
    limit: usize,
    files: Vec<File>,
    fetches: BTreeMap<FetchId, Running>,
    waiting: BTreeMap<WaiterId, (usize, Range<u64>)>,
    next_waiter: u64,
    started: u64,
    /// True if a fetch was answered by an origin of which it may not have a slot.
    was_answered_elsewhere: bool,
}

/// The origins of all files.
const ORIGINS: [&str; 2] = ["a", "b"];

fn named(origin: bool) -> &'static str {
    ORIGINS[usize::from(!origin)]
}

impl World {
    fn new(limit: usize, fetch_chunks: u64, split_distance: u64, round_trip: u64) -> World {
        let mut scheduler = Scheduler::new(Limits {
            fetches_per_origin: limit,
            fetch_len: fetch_chunks * C,
            split_distance,
            is_throttled: false,
            slice: None,
        });
        put_away(&mut scheduler, round_trip);
        World {
            scheduler,
            round_trip,
            limit,
            files: Vec::new(),
            fetches: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_waiter: 1,
            started: 0,
            was_answered_elsewhere: false,
        }
    }

    fn fetch(&self, number: usize) -> Option<FetchId> {
        let count = self.fetches.len();
        (count > 0).then(|| *self.fetches.keys().nth(number % count).unwrap())
    }

    fn happens(&mut self, event: &Event) {
        let file = |number: usize| (!self.files.is_empty()).then(|| number % self.files.len());
        match *event {
            Event::Open {
                origin,
                listed,
                size,
                present,
                ignores_range,
            } => self.files.push(File {
                entry: super::listed(named(origin), listed),
                size,
                ignores_range,
                present,
                written: RangeSet::new(),
                evicted: RangeSet::new(),
                was_asked_for: false,
            }),
            Event::Wait {
                entry,
                start,
                len,
                ahead,
            } => {
                let Some(file) = file(entry) else { return };
                let waiter = WaiterId(self.next_waiter);
                self.next_waiter += 1;
                let bytes = start..start + len;
                self.waiting.insert(waiter, (file, bytes.clone()));
                let entry = Arc::clone(&self.files[file].entry);
                let ahead = (ahead > 0).then(|| moves(&entry, ahead, start / C..start / C + ahead));
                self.scheduler
                    .wait(&entry, bytes, Priority::Critical, ahead.as_slice(), waiter);
            }
            Event::WaitPatiently {
                entry,
                start,
                len,
                priority,
            } => {
                let Some(file) = file(entry) else { return };
                let waiter = WaiterId(self.next_waiter);
                self.next_waiter += 1;
                let bytes = start..start + len;
                self.waiting.insert(waiter, (file, bytes.clone()));
                self.files[file].was_asked_for = true;
                let entry = Arc::clone(&self.files[file].entry);
                self.scheduler.wait(&entry, bytes, PRIORITIES[priority], &[], waiter);
            }
            Event::Request {
                entry,
                start,
                chunks,
                priority,
            } => {
                let Some(file) = file(entry) else { return };
                self.files[file].was_asked_for = true;
                let entry = Arc::clone(&self.files[file].entry);
                self.scheduler
                    .request(&entry, start..start + chunks, PRIORITIES[priority]);
            }
            Event::Answer { fetch } => self.on_fetch(fetch, World::answers),
            Event::Leads { fetch, origin } => self.on_fetch(fetch, |world, id| {
                let to = super::listed(named(origin), 0).origin.clone();
                let stays = world.scheduler.leads_to(id, &to);
                assert_eq!(stays, world.scheduler.table.fetches.contains_key(&id));
            }),
            Event::ComesFrom { fetch, origin } => self.on_fetch(fetch, |world, id| {
                let from = super::listed(named(origin), 0).origin.clone();
                world.scheduler.answered(id, &from);
                world.was_answered_elsewhere = true;
            }),
            Event::Hear { fetch } => self.on_fetch(fetch, |world, id| {
                let running = world.fetches.get_mut(&id).unwrap();
                running.heard_end = running.end;
                // The writer thread reports everything that it has written, even then.
                if running.is_stopped && !running.has_news {
                    world.fetches.remove(&id);
                }
            }),
            Event::Write { fetch, bytes } => self.on_fetch(fetch, |world, id| world.writes(id, bytes)),
            Event::Report { fetch } => self.on_fetch(fetch, World::reports),
            Event::Finish { fetch } => self.on_fetch(fetch, |world, id| {
                let running = &world.fetches[&id];
                if running.is_answered && running.position >= world.end_of(running) && !running.has_news {
                    world.fetches.remove(&id);
                    world.scheduler.ended(id, Ok(()));
                }
            }),
            Event::Fail { fetch, changed } => self.on_fetch(fetch, |world, id| {
                if !world.fetches[&id].has_news {
                    world.fetches.remove(&id);
                    let error = if changed { ReadError::Changed } else { failure() };
                    world.scheduler.ended(id, Err(error));
                }
            }),
            Event::GiveUp { waiter } => {
                if let Some(&waiter) = self.waiting.keys().nth(waiter % self.waiting.len().max(1)) {
                    self.scheduler
                        .give_up(waiter, ReadError::DeadlinePassed(Duration::ZERO));
                }
            }
            Event::WindowUpdate {
                entry,
                stream,
                start,
                chunks,
                how,
            } => {
                let Some(file) = file(entry) else { return };
                let entry = Arc::clone(&self.files[file].entry);
                let moved = moves(&entry, stream, start..start + chunks);
                let WindowUpdate::Move { stream, .. } = moved else {
                    unreachable!()
                };
                let update = if how <= 2 { WindowUpdate::Drop(stream) } else { moved };
                self.scheduler.update_windows(&entry, &[update]);
            }
            Event::Leave { entry, reader } => {
                let Some(file) = file(entry) else { return };
                let id = self.files[file].entry.id;
                self.scheduler.leave(id, reader);
            }
            Event::EndReadAhead { entry } => {
                let Some(file) = file(entry) else { return };
                let id = self.files[file].entry.id;
                self.scheduler.end_read_ahead(id);
            }
            Event::Evict { entry, chunk, is_told } => {
                let Some(file) = file(entry) else { return };
                self.evicts(file, chunk);
                if is_told {
                    self.scheduler.look_after_losses();
                }
            }
            Event::BroughtByAnother { entry, chunk } => {
                let Some(file) = file(entry) else { return };
                let file = &mut self.files[file];
                if let Some(settled) = file.entry.settled()
                    && chunk < file.entry.chunk.count(file.size)
                    && settled.presence.insert(chunk)
                {
                    file.written.insert(chunk * C..((chunk + 1) * C).min(file.size));
                }
            }
            Event::PeriodPasses => self.scheduler.period_passed(),
            Event::Close => self.scheduler.close(),
        }
        self.carry_out();
        self.check();
    }

    fn on_fetch(&mut self, number: usize, does: impl FnOnce(&mut World, FetchId)) {
        if let Some(id) = self.fetch(number) {
            does(self, id);
        }
    }

    /// Where a fetch stops writing.
    fn end_of(&self, running: &Running) -> u64 {
        let size = self.files[running.file].size;
        if running.is_linear {
            size
        } else {
            running.heard_end.min(size)
        }
    }

    fn answers(&mut self, id: FetchId) {
        let running = self.fetches.get_mut(&id).unwrap();
        if running.is_answered {
            return;
        }
        running.is_answered = true;
        let file = &mut self.files[running.file];
        let entry = Arc::clone(&file.entry);
        if entry.settled().is_none() {
            let settled = entry.settle_for_tests(file.size);
            // The chunks that earlier mounts have fetched become known.
            for chunk in (0..64).filter(|chunk| file.present >> chunk & 1 == 1) {
                if settled.presence.insert(chunk) {
                    file.written.insert(chunk * C..(chunk + 1) * C);
                }
            }
            self.scheduler.settled(entry.id);
            self.carry_out();
            self.check();
        }
        let file = &self.files[self.fetches[&id].file];
        if file.ignores_range && file.size > 0 {
            entry.mark_ignores_range();
            let goes = self.scheduler.goes_linear(id);
            let running = self.fetches.get_mut(&id).unwrap();
            assert_eq!(goes, !running.is_stopped);
            if goes {
                (running.start, running.position, running.is_linear) = (0, 0, true);
            }
        }
    }

    fn writes(&mut self, id: FetchId, bytes: u64) {
        let end = self.end_of(&self.fetches[&id]);
        let running = self.fetches.get_mut(&id).unwrap();
        if !running.is_answered || running.position >= end {
            return;
        }
        let to = (running.position + bytes).min(end);
        let file = &mut self.files[running.file];
        file.written.insert(running.position..to);
        let settled = file.entry.settled().unwrap();
        for chunk in file.entry.chunk.contained(&(running.start..to), file.size) {
            settled.presence.insert(chunk);
        }
        running.position = to;
        running.has_news = true;
    }

    /// Evicts a whole chunk that no fetch is writing.
    fn evicts(&mut self, file: usize, chunk: u64) {
        let is_filled = |running: &Running| {
            running.file == file && running.position / C == chunk && !running.position.is_multiple_of(C)
        };
        if self.fetches.values().any(is_filled) {
            return;
        }
        let file = &mut self.files[file];
        let Some(settled) = file.entry.settled() else { return };
        if settled.presence.remove(chunk) {
            file.written.remove(chunk * C..(chunk + 1) * C);
            file.evicted.insert(chunk * C..(chunk + 1) * C);
        }
    }

    fn reports(&mut self, id: FetchId) {
        let running = self.fetches.get_mut(&id).unwrap();
        if std::mem::take(&mut running.has_news) {
            let entry = self.files[running.file].entry.id;
            self.scheduler.progress(entry, id, running.position);
        }
    }

    /// Carries out the actions as the manager would.
    fn carry_out(&mut self) {
        for action in self.scheduler.take_actions() {
            match action {
                Action::Start(order) => self.starts(order),
                Action::Trim { fetch, end } => {
                    let running = self.fetches.get_mut(&fetch).expect("only a running fetch can be cut");
                    assert!(!running.is_stopped && !running.is_linear);
                    assert!(end > running.start && end < running.end && end % C == 0);
                    running.end = end;
                }
                Action::Stop(fetch) => {
                    let running = self
                        .fetches
                        .get_mut(&fetch)
                        .expect("only a running fetch can be stopped");
                    assert!(!std::mem::replace(&mut running.is_stopped, true));
                }
                Action::Wake(waiter, result) => {
                    let (file, bytes) = self.waiting.remove(&waiter).expect("each waiter is woken once");
                    let file = &self.files[file];
                    let due = bytes.start..bytes.end.min(file.size);
                    if result.is_ok() && !due.is_empty() {
                        assert!(file.entry.settled().is_some());
                        let mut good = file.written.clone();
                        good.extend(file.evicted.iter().cloned());
                        assert!(
                            good.gaps(&due).next().is_none(),
                            "woken without {due:?} of {:?}",
                            file.written
                        );
                    }
                }
            }
        }
    }

    fn starts(&mut self, order: FetchOrder) {
        self.started += 1;
        let file = self.files.iter().position(|file| file.entry.id == order.entry.id);
        let (chunk, bytes) = (order.entry.chunk, order.bytes);
        assert!(!bytes.is_empty() && bytes.start % C == 0);
        if let Some(settled) = order.entry.settled() {
            assert!(bytes.end % C == 0 || bytes.end == settled.size());
            let chunks = chunk.touched(&bytes);
            let is_missing = |chunk: u64| !settled.presence.contains(chunk);
            if order.entry.ignores_range() {
                assert!(chunks.clone().any(is_missing));
            } else {
                // Present chunks are only passed over, on the way to missing ones.
                let present: Vec<_> = chunks.clone().filter(|&chunk| !is_missing(chunk)).collect();
                let longest = present.chunk_by(|one, next| one + 1 == *next).map(<[_]>::len).max();
                assert!(is_missing(chunks.start) && is_missing(chunks.end - 1));
                assert!(longest.unwrap_or(0) as u64 <= self.round_trip);
            }
        }
        let running = Running {
            file: file.unwrap(),
            start: bytes.start,
            position: bytes.start,
            heard_end: bytes.end,
            end: bytes.end,
            is_answered: false,
            is_linear: false,
            is_stopped: false,
            has_news: false,
        };
        self.fetches.insert(order.id, running);
    }

    /// Lets everything finish without failures.
    fn drain(&mut self) {
        let before = self.started;
        for _ in 0..1000 {
            self.drain_what_runs(before);
            if self.scheduler.is_idle() {
                return;
            }
            // An entry was set back.
            self.happens(&Event::PeriodPasses);
        }
    }

    fn drain_what_runs(&mut self, before: u64) {
        while let Some(&id) = self.fetches.keys().next() {
            for event in [
                Event::Answer { fetch: 0 },
                Event::Hear { fetch: 0 },
                Event::Write {
                    fetch: 0,
                    bytes: u64::MAX >> 1,
                },
                Event::Report { fetch: 0 },
                Event::Hear { fetch: 0 },
                Event::Finish { fetch: 0 },
            ] {
                // The first fetch is another one as soon as this one is over.
                if self.fetches.contains_key(&id) {
                    self.happens(&event);
                }
            }
            assert!(!self.fetches.contains_key(&id), "a fetch without an end");
            let chunks = 41 * (self.files.len() as u64 + 1);
            assert!(
                self.started - before <= 2 * chunks,
                "what came is fetched again and again"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_events_lose_no_waiter_or_slot(
        limit in 1..5usize,
        fetch_chunks in 1..18u64,
        split_distance in 0..12 * C,
        round_trip in 0..4u64,
        first in prop::collection::vec(event(), 1..8),
        events in prop::collection::vec(event(), 1..120),
        closes in 0..8u8,
    ) {
        let mut world = World::new(limit, fetch_chunks, split_distance, round_trip);
        world.happens(&Event::Open { origin: true, listed: 20 * C, size: 20 * C, present: 0, ignores_range: false });
        for event in first.iter().chain(&events) {
            world.happens(event);
        }
        if closes == 0 {
            world.happens(&Event::Close);
            prop_assert!(world.waiting.is_empty() && world.scheduler.is_idle());
        }
        world.drain();
        prop_assert!(world.waiting.is_empty(), "{:?} still wait", world.waiting.keys());
        prop_assert!(world.scheduler.is_idle());
    }
}

/// A fetch has to give way at an origin from which its file has moved. What it does not bring any more begins at the other
/// origin at once, where a slot is free.
#[test]
fn what_is_cut_off_begins_where_its_file_has_moved() {
    let open = |origin| Event::Open {
        origin,
        listed: 0,
        size: 0,
        present: 0,
        ignores_range: true,
    };
    let wait = |entry| Event::Wait {
        entry,
        start: 0,
        len: 1,
        ahead: 0,
    };
    let mut world = World::new(2, 2, 0, 3);
    for event in [
        Event::Open {
            origin: true,
            listed: 20 * C,
            size: 20 * C,
            present: 0,
            ignores_range: false,
        },
        Event::WaitPatiently {
            entry: 0,
            start: 19 * C,
            len: 1,
            priority: 1,
        },
        Event::WindowUpdate {
            entry: 0,
            stream: 0,
            start: 0,
            chunks: 5,
            how: 3,
        },
        Event::Leads {
            fetch: 0,
            origin: false,
        },
        open(true),
        open(true),
        Event::Answer { fetch: 1 },
        wait(2),
        open(false),
        wait(3),
        Event::Write {
            fetch: 1,
            bytes: 2 * C - 12,
        },
        Event::Report { fetch: 1 },
        Event::Leads { fetch: 3, origin: true },
        wait(1),
    ] {
        world.happens(&event);
    }
}
