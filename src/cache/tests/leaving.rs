//! Written chunks stay for as long as the scheduler may wake readers for them, and may be evicted
//! at once afterwards.

use super::*;

/// Makes a waiter for `bytes` of the server's file inspect its data file in the moment in which it
/// is woken.
fn when_woken<T: Send + 'static>(
    mount: &Mount,
    reader: &Reader,
    bytes: std::ops::Range<u64>,
    look: impl FnOnce(&crate::cache::entry::cached_file::CachedFile, Result<(), ReadError>) -> T + Send + 'static,
) -> T {
    let (seen, sees) = crossbeam_channel::bounded(1);
    let entry = Arc::clone(reader.entry());
    let on_ready = move |result| {
        let settled = entry.settled().expect("its version is known by now");
        seen.send(look(&settled.cached_file, result)).unwrap();
    };
    mount
        .cache
        .manager()
        .when_ready(reader.entry(), bytes, &[], Default::default(), Box::new(on_ready));
    sees.recv_timeout(Duration::from_secs(60)).expect("to be woken")
}

fn until(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not so yet");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn chunk_is_evictable_only_after_the_scheduler_knows_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(content(2 * C), |_, _| Honest);
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 2 * C);
    // Until then the scheduler would wake waiters for the part of the chunk that was reported
    // before.
    let (evictable, result) = when_woken(&mount, &reader, 0..2 * C, |cached_file, result| {
        (cached_file.evictable(0), result)
    });
    // The first chunk may have come with a write of its own, and been reported.
    assert!(result.is_ok() && !evictable.contains(&1), "{result:?}, {evictable:?}");
    let cached_file = &reader.entry().settled().unwrap().cached_file;
    until(|| cached_file.evictable(0) == [0, 1]);
    drop(reader);
    mount.end();
}

#[test]
fn partial_chunk_is_evictable_only_after_its_failure_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(
        content(2 * C),
        |before, _| if before == 0 { CutAfter(100) } else { Tagged("v2") },
    );
    let mount = Mount::over(dir.path());
    let reader = mount.listed(&server, 2 * C);
    let (is_kept, freed, result) = when_woken(&mount, &reader, 0..C, |cached_file, result| {
        (
            cached_file.is_busy(),
            cached_file.trim(false, |_| Some(Vec::new())).freed,
            result,
        )
    });
    assert!(matches!(result, Err(ReadError::Changed)), "{result:?}");
    assert!(is_kept && freed == 0, "{is_kept}, {freed}");
    let cached_file = &reader.entry().settled().unwrap().cached_file;
    until(|| !cached_file.is_busy());
    drop(reader);
    mount.end();
}
