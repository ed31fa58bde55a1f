//! The manager with fake downloaders: one that does nothing until the test says so, and one that
//! works as fast as it can.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::oneshot;
use url::Url;

use super::*;
use crate::cache::chunk::ChunkSize;
use crate::http::Origin;
use crate::origin::{Content, ListedSize};

/// The size of the chunks of these tests, in bytes.
const C: u64 = 4096;

/// No test takes this long, so a wait of this length fails the test.
const LONG: Duration = Duration::from_secs(120);

const LIMITS: Limits = Limits {
    fetches_per_origin: 4,
    fetch_len: 16 * C,
    split_distance: 4 * C,
    is_throttled: false,
    slice: None,
};

fn entry(chunks: u64) -> Arc<CacheEntry> {
    let url = Url::parse("http://h/f").unwrap();
    let origin = Origin::of(&url).unwrap();
    let content = Content::at(url, ListedSize::Exact(chunks * C));
    let entry = CacheEntry::unsettled(content, origin, ChunkSize::new(C).unwrap());
    entry.settle_for_tests(chunks * C);
    Arc::new(entry)
}

/// Records what it is to fetch.
#[derive(Default)]
struct Idle {
    orders: Mutex<Vec<(FetchOrder, Arc<FetchControl>)>>,
}

impl Fetcher for Idle {
    fn start(self: Arc<Self>, _: Arc<ChunkManager>, order: FetchOrder, control: Arc<FetchControl>) {
        self.orders.lock().push((order, control));
    }
}

impl Idle {
    fn manager(patience: Duration) -> (Arc<Idle>, Arc<ChunkManager>) {
        let idle = Arc::new(Idle::default());
        let manager = ChunkManager::new(LIMITS, patience, Arc::clone(&idle) as Arc<dyn Fetcher>);
        (idle, manager)
    }

    /// Fetch number `index` writes up to `to`.
    fn write(&self, manager: &Arc<ChunkManager>, index: usize, to: u64) {
        let order = self.orders.lock()[index].0.clone();
        write(manager, &order, to);
    }
}

fn write(manager: &Arc<ChunkManager>, order: &FetchOrder, to: u64) {
    let settled = order.entry.settled().unwrap();
    for chunk in order.entry.chunk.contained(&(order.bytes.start..to), settled.size()) {
        settled.presence.insert(chunk);
    }
    manager.progress(order.entry.id, order.id, to);
}

impl ChunkManager {
    /// Blocks the calling thread until `bytes` are in the data file.
    pub(in crate::cache) fn wait_for_range(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
    ) -> Result<(), ReadError> {
        let (done, ready) = std::sync::mpsc::channel();
        self.when_ready(
            entry,
            bytes,
            &[],
            Default::default(),
            Box::new(move |result| done.send(result).unwrap()),
        );
        ready.recv().unwrap()
    }
}

/// A callback, and its argument.
fn callback() -> (OnReady, oneshot::Receiver<Result<(), ReadError>>) {
    let (called, call) = oneshot::channel();
    (Box::new(move |result| called.send(result).unwrap()), call)
}

fn is_waiting(manager: &ChunkManager) -> usize {
    manager.state.lock().waiting.len()
}

#[test]
fn threads_block_until_their_own_bytes_are_in() {
    let (idle, manager) = Idle::manager(LONG);
    let entry = entry(100);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                manager.wait_for_range(&entry, 10..C + 10).unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while is_waiting(&manager) < 8 {
            thread::yield_now();
        }
        idle.write(&manager, 0, C + 9);
        assert_eq!((is_waiting(&manager), done.load(Ordering::SeqCst)), (8, 0));
        idle.write(&manager, 0, C + 10);
    });
    assert_eq!((done.into_inner(), idle.orders.lock().len()), (8, 1));
}

#[test]
fn present_range_is_answered_synchronously() {
    let (idle, manager) = Idle::manager(LONG);
    let entry = entry(1);
    entry.settled().unwrap().presence.insert(0);
    let (on_ready, mut call) = callback();
    manager.when_ready(&entry, 0..C, &[], Default::default(), on_ready);
    assert!(call.try_recv().unwrap().is_ok());
    assert!(idle.orders.lock().is_empty());
}

/// Fetches in a thread each, as fast as it can, and fails now and then.
struct Busy {
    fails_every: u64,
}

impl Fetcher for Busy {
    fn start(self: Arc<Self>, manager: Arc<ChunkManager>, order: FetchOrder, control: Arc<FetchControl>) {
        thread::spawn(move || {
            let mut at = order.bytes.start;
            while at < control.end() {
                if self.fails_every > 0 && order.id.0.is_multiple_of(self.fails_every) {
                    return manager.ended(order.id, Err(ReadError::Store("no luck".into())));
                }
                at += C;
                write(&manager, &order, at);
            }
            manager.ended(order.id, Ok(()));
        });
    }
}

#[test]
fn concurrent_readers_and_writers_lose_no_wakeup() {
    let manager = ChunkManager::new(LIMITS, LONG, Arc::new(Busy { fails_every: 7 }));
    let woken = AtomicUsize::new(0);
    for round in 0..20 {
        let entries = [entry(64), entry(64), entry(64)];
        thread::scope(|scope| {
            for reader in 0..8 {
                let (entries, manager, woken) = (&entries, &manager, &woken);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(round * 8 + reader);
                    for _ in 0..50 {
                        let entry = &entries[random.usize(0..3)];
                        let start = random.u64(0..64 * C);
                        let bytes = start..(start + random.u64(1..5 * C)).min(64 * C);
                        match random.u8(0..4) {
                            0 => manager.request(entry, bytes.clone(), Priority::High),
                            1 => manager.end_read_ahead(entry.id),
                            _ => {}
                        }
                        while manager.wait_for_range(entry, bytes.clone()).is_err() {
                            // Only a fetch's failure ends a wait here, not the deadline.
                        }
                        woken.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
    assert_eq!((woken.into_inner(), is_waiting(&manager)), (20 * 8 * 50, 0));
}

#[tokio::test(start_paused = true)]
async fn wait_ends_exactly_at_its_deadline() {
    let (idle, manager) = Idle::manager(LONG);
    tokio::spawn(Arc::clone(&manager).watch_waits());
    let entry = entry(100);
    let (first, first_call) = callback();
    let (second, second_call) = callback();
    let begun = Instant::now();
    manager.when_ready(&entry, 0..C, &[], Default::default(), first);
    tokio::time::sleep(LONG / 3).await;
    manager.when_ready(&entry, C..2 * C, &[], Default::default(), second);
    let result = first_call.await.unwrap();
    assert!(matches!(result, Err(ReadError::DeadlinePassed(LONG))));
    let waited = begun.elapsed();
    assert!(
        waited >= LONG && waited < LONG + Duration::from_millis(10),
        "{waited:?}"
    );
    assert!(second_call.await.unwrap().is_err());
    let waited = begun.elapsed();
    assert!(waited >= LONG + LONG / 3 && waited < LONG + LONG / 3 + Duration::from_millis(10));
    // A late report wakes no waiter a second time.
    idle.write(&manager, 0, C);
}

#[tokio::test(start_paused = true)]
async fn scan_waits_for_a_while_and_only_at_a_low_priority() {
    let (idle, manager) = Idle::manager(LONG);
    tokio::spawn(Arc::clone(&manager).watch_waits());
    let entry = entry(100);
    let (reader, reader_call) = callback();
    manager.when_ready(&entry, 90 * C..91 * C, &[], Default::default(), reader);
    let begun = Instant::now();
    let (scan, scan_call) = callback();
    manager.when_scanned(&entry, C..2 * C, &(0..4 * C), Default::default(), scan);
    let ordered = idle.orders.lock()[1].0.bytes.clone();
    assert_eq!(ordered, 0..4 * C, "what is ahead comes with it");
    assert!(matches!(scan_call.await.unwrap(), Err(ReadError::DeadlinePassed(_))));
    let waited = begun.elapsed();
    assert!(
        waited >= SCAN_PATIENCE && waited <= SCAN_PATIENCE + STALL,
        "although an earlier waiter has a later deadline: {waited:?}"
    );
    let (scan, scan_call) = callback();
    manager.when_scanned(&entry, C..2 * C, &(C..2 * C), Default::default(), scan);
    idle.write(&manager, 1, 4 * C);
    assert!(scan_call.await.unwrap().is_ok());
    assert!(reader_call.await.unwrap().is_err(), "it has a deadline of its own");
}

#[test]
fn part_of_a_job_counts_until_it_has_ended() {
    let (idle, manager) = Idle::manager(LONG);
    let entry = entry(100);
    entry.readers.fetch_add(1, Ordering::AcqRel);
    entry.scanners.fetch_add(1, Ordering::AcqRel);
    assert!(entry.is_only_scanned());
    let (on_ready, _call) = callback();
    manager.when_fetched(&entry, 0..C, Priority::Medium, on_ready);
    assert!(!entry.is_only_scanned());
    idle.write(&manager, 0, C);
    assert!(entry.is_only_scanned());
    entry.readers.fetch_add(1, Ordering::AcqRel);
    assert!(!entry.is_only_scanned(), "an ordinary program has it open too");
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_watched_again_after_idle_time() {
    let (_idle, manager) = Idle::manager(LONG);
    tokio::spawn(Arc::clone(&manager).watch_waits());
    let entry = entry(100);
    for _ in 0..3 {
        let (on_ready, call) = callback();
        manager.when_ready(&entry, 0..C, &[], Default::default(), on_ready);
        assert!(call.await.unwrap().is_err());
        tokio::time::sleep(3 * LONG).await;
    }
}

#[tokio::test(start_paused = true)]
async fn panicking_reply_does_not_affect_others() {
    let (idle, manager) = Idle::manager(LONG);
    tokio::spawn(Arc::clone(&manager).watch_waits());
    let entry = entry(100);
    let panics = || -> OnReady { Box::new(|_| panic!("a bug")) };
    // Woken by bytes.
    let (on_ready, call) = callback();
    manager.when_ready(&entry, 0..C, &[], Default::default(), panics());
    manager.when_ready(&entry, 0..C, &[], Default::default(), on_ready);
    idle.write(&manager, 0, C);
    assert!(call.await.unwrap().is_ok());
    // And by the deadline, twice.
    for _ in 0..2 {
        let (on_ready, call) = callback();
        manager.when_ready(&entry, C..2 * C, &[], Default::default(), panics());
        manager.when_ready(&entry, C..2 * C, &[], Default::default(), on_ready);
        assert!(call.await.unwrap().is_err());
    }
}

#[test]
fn finished_waits_are_freed() {
    let (_idle, manager) = Idle::manager(LONG);
    let (stuck, quick) = (entry(1), entry(1));
    quick.settled().unwrap().presence.insert(0);
    manager.when_ready(&stuck, 0..C, &[], Default::default(), Box::new(|_| {}));
    for _ in 0..1000 {
        manager.when_ready(&quick, 0..C, &[], Default::default(), Box::new(|_| {}));
    }
    assert_eq!(is_waiting(&manager), 1);
}

#[test]
fn closing_wakes_readers_and_stops_fetches() {
    let (idle, manager) = Idle::manager(LONG);
    let entry = entry(100);
    let calls: Vec<_> = (0..10)
        .map(|number| {
            let (on_ready, call) = callback();
            manager.when_ready(
                &entry,
                number * 10 * C..(number * 10 + 1) * C,
                &[],
                Default::default(),
                on_ready,
            );
            call
        })
        .collect();
    manager.close();
    // Later reports of fetches call no callback again: a callback could not be called twice.
    for (order, control) in idle.orders.lock().iter() {
        assert_eq!(control.end(), 0);
        write(&manager, order, order.bytes.end);
        manager.ended(order.id, Ok(()));
    }
    manager.close();
    for mut call in calls {
        assert!(matches!(call.try_recv(), Ok(Err(ReadError::ShuttingDown))));
    }
    assert!(matches!(
        manager.wait_for_range(&entry, 0..2 * C),
        Err(ReadError::ShuttingDown)
    ));
    assert!(manager.state.lock().controls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn patient_wait_outlasts_readers_and_can_be_cancelled() {
    let (idle, manager) = Idle::manager(LONG);
    tokio::spawn(Arc::clone(&manager).watch_waits());
    let entry = entry(4);
    let (reader, reader_call) = callback();
    let [(first, mut first_call), (second, second_call), (third, third_call)] = [callback(), callback(), callback()];
    manager.when_ready(&entry, 0..C, &[], Default::default(), reader);
    manager.when_fetched(&entry, 0..u64::MAX, Priority::Medium, first);
    let cancelled = manager.when_fetched(&entry, 0..2 * C, Priority::Low, second);
    assert!(reader_call.await.unwrap().is_err());
    assert!(first_call.try_recv().is_err(), "still waiting");
    manager.cancel(cancelled);
    assert!(matches!(second_call.await.unwrap(), Err(ReadError::Cancelled)));
    let orders: Vec<_> = idle.orders.lock().iter().map(|(order, _)| order.clone()).collect();
    for order in orders {
        write(&manager, &order, order.bytes.end);
    }
    assert!(first_call.await.unwrap().is_ok());
    manager.when_fetched(&entry, 0..C, Priority::Low, third);
    assert!(third_call.await.unwrap().is_ok(), "it was there already");
    manager.cancel(cancelled);
    assert_eq!(is_waiting(&manager), 0);
}

#[test]
fn a_callback_may_ask_for_more() {
    let (idle, manager) = Idle::manager(LONG);
    let entry = entry(100);
    let (again, shared) = (Arc::clone(&manager), Arc::clone(&entry));
    let on_ready = move |_| again.request(&shared, 50 * C..51 * C, Priority::High);
    manager.when_ready(&entry, 0..C, &[], Default::default(), Box::new(on_ready));
    idle.write(&manager, 0, C);
    assert_eq!(idle.orders.lock()[1].0.bytes, 50 * C..51 * C);
}

#[tokio::test]
async fn stopped_fetch_ends_and_shortened_fetch_continues() {
    let control = Arc::new(FetchControl::new(100));
    let heard = tokio::spawn({
        let control = Arc::clone(&control);
        async move { control.stopped().await }
    });
    control.lower_end(50);
    control.lower_end(70);
    assert_eq!(control.end(), 50);
    tokio::task::yield_now().await;
    assert!(!heard.is_finished());
    control.lower_end(0);
    heard.await.unwrap();
    control.stopped().await;
}

#[test]
fn report_has_all_of_the_wait_by_its_phases() {
    let (idle, manager) = Idle::manager(LONG);
    let entry = entry(100);
    let (on_ready, mut call) = callback();
    let report = WaitReport::default();
    let begun = std::time::Instant::now();
    manager.when_ready(&entry, 0..C, &[], Arc::clone(&report), on_ready);
    let control = Arc::clone(&idle.orders.lock()[0].1);
    control.phase().set(Phase::FirstByte);
    control.note_server(&entry.origin);
    thread::sleep(Duration::from_millis(20));
    control.phase().set(Phase::Transferring);
    let late = WaitReport::default();
    manager.when_ready(&entry, 0..C, &[], Arc::clone(&late), Box::new(|_| {}));
    idle.write(&manager, 0, C);
    assert!(call.try_recv().unwrap().is_ok());
    let (waited, all) = (report.lock().clone(), begun.elapsed());
    assert!(
        waited.times[Phase::FirstByte] >= Duration::from_millis(20),
        "{waited:?}"
    );
    assert!(waited.times.total() <= all, "{waited:?} in {all:?}");
    assert_eq!(
        (waited.was_in_flight, &waited.server),
        (false, &Some(entry.origin.clone()))
    );
    // What was before its own wait does not count.
    let late = late.lock().clone();
    assert_eq!(
        (late.was_in_flight, late.times[Phase::FirstByte]),
        (true, Duration::ZERO)
    );
}
