//! The guarantees of the scheduler's module, checked after each call.

use std::collections::BTreeSet;

use super::*;

impl World {
    /// Checks the guarantees of the scheduler's module.
    pub(super) fn check(&self) {
        let scheduler = &self.scheduler;
        let live: BTreeSet<_> = self
            .fetches
            .iter()
            .filter(|(_, f)| !f.is_stopped)
            .map(|(&id, _)| id)
            .collect();
        assert_eq!(live, scheduler.table.fetches.keys().copied().collect());
        assert_eq!(
            self.waiting.keys().collect::<BTreeSet<_>>(),
            scheduler.table.waiters.keys().collect::<BTreeSet<_>>()
        );
        let mut in_flights = BTreeSet::new();
        scheduler.table.queues.check();
        self.check_windows();
        for (id, queue) in scheduler.table.queues.iter() {
            assert!(!queue.is_idle(), "what is over is forgotten");
            let mut in_flight = RangeSet::new();
            for fetch in &queue.fetches {
                assert_eq!(scheduler.table.fetches[&fetch.id], id);
                // It turned out to lie past the end of the file.
                if !fetch.chunks.is_empty() {
                    assert!(!in_flight.overlaps(&fetch.chunks), "a chunk in flight twice");
                    in_flight.insert(fetch.chunks.clone());
                }
                in_flights.insert(fetch.id);
            }
            for run in queue.wants.at(Priority::Critical).iter() {
                assert!(!in_flight.overlaps(run), "a chunk in flight is wanted at `Critical`");
            }
            for waiter in &queue.waiters {
                self.check_waiter(queue, waiter, &in_flight);
            }
        }
        assert_eq!(in_flights, live, "each fetch belongs to an entry that is not forgotten");
        for origin in ORIGINS {
            self.check_slots(origin);
        }
    }

    /// A file that is requested only by windows has nothing wanted at `High` outside them.
    fn check_windows(&self) {
        for (id, queue) in self.scheduler.table.queues.iter() {
            let file = self.files.iter().find(|file| file.entry.id == id).unwrap();
            let mut wanted = queue.wants.at(Priority::High).clone();
            for window in queue.windows.iter() {
                wanted.remove(window.clone());
            }
            assert!(
                file.was_asked_for || wanted.is_empty(),
                "{wanted:?} is wanted ahead of no reader"
            );
        }
    }

    fn check_waiter(&self, queue: &EntryQueue, waiter: &Waiter, in_flight: &RangeSet<u64>) {
        let wanted = queue.wants.at(waiter.priority);
        let mut touched = queue.entry.chunks_of(&waiter.bytes);
        let has_news = (self.fetches.values()).any(|f| f.has_news && self.files[f.file].entry.id == queue.entry.id);
        // Another entry may have brought all that it waits for. It is woken when its own fetch ends, or would begin.
        assert!(
            has_news || (touched.clone()).any(|chunk| wanted.contains(&chunk) || in_flight.contains(&chunk)),
            "nothing will wake {waiter:?}"
        );
        assert!(
            // The scheduler has not received it yet; the next event reports it.
            queue.has_unseen_losses()
                || touched.all(|chunk| queue.entry.is_present(chunk)
                    || wanted.contains(&chunk)
                    || in_flight.contains(&chunk)),
            "a chunk of {waiter:?} is neither wanted nor in flight"
        );
    }

    fn check_slots(&self, origin: &str) {
        let scheduler = &self.scheduler;
        let origin = listed(origin, 0).origin.clone();
        let Some((_, number)) = scheduler.table.queues.named().find(|(name, _)| **name == origin) else {
            return;
        };
        let mut running = self
            .fetches
            .iter()
            .filter(|(id, f)| !f.is_stopped && scheduler.table.fetch(**id).unwrap().1.origin == number);
        let count = running.clone().count();
        assert!(
            count <= self.limit || self.was_answered_elsewhere,
            "{count} fetches at once"
        );
        let wanted = scheduler
            .table
            .queues
            .iter()
            .map(|(_, queue)| queue)
            .filter(|queue| queue.origin == number && !queue.stalls.is_set_back())
            .filter_map(|queue| {
                // Chunks that became present since the last check need no fetch.
                let missing = |p: &Priority| {
                    let mut chunks = queue.wants.at(*p).iter().cloned().flatten();
                    let is_in_flight = |chunk| queue.fetches.iter().any(|fetch| fetch.chunks.contains(&chunk));
                    chunks.any(|chunk| !queue.entry.is_present(chunk) && !is_in_flight(chunk))
                };
                PRIORITIES.into_iter().find(missing)
            });
        match wanted.min() {
            Some(_) if scheduler.closed => panic!("something is wanted after the end"),
            Some(Priority::Critical) => {
                assert!(
                    running.all(|(&id, _)| {
                        let (queue, fetch) = scheduler.table.fetch(id).unwrap();
                        queue.is_waited_for(fetch) || self.is_spared(id)
                    }),
                    "critical waits for something lower"
                );
                assert!(count >= self.limit, "a slot is idle");
            }
            Some(_) => assert!(count >= self.limit, "a slot is idle"),
            None => {}
        }
    }

    /// Returns true if a fetch brought something lately, and either is the only one of its file and
    /// read ahead, or ends within a round trip.
    fn is_spared(&self, id: FetchId) -> bool {
        let file = self.fetches[&id].file;
        let others = self
            .fetches
            .iter()
            .filter(|(other, f)| **other != id && f.file == file && !f.is_stopped);
        let (queue, fetch) = self.scheduler.table.fetch(id).unwrap();
        let lately = self.scheduler.table.period.saturating_sub(1)..;
        let size = self.files[file].entry.size();
        let due = (fetch.chunks.end * C).min(size).saturating_sub(fetch.watermark);
        let keeps_a_stream_going = others.count() == 0 && queue.base_of(fetch) == Some(Priority::High);
        (keeps_a_stream_going || due <= self.round_trip * C + C / 2)
            && fetch.moved_in.is_some_and(|moved| lately.contains(&moved))
    }
}
