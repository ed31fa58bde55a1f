//! Which chunks of a version are evicted, and which stay.

use super::*;
use crate::cache::quota::Quota;

const C: u64 = 4096;

fn quota() -> Arc<Quota> {
    Quota::alone(64 << 20)
}

/// A file of four chunks, all of them present.
fn cached_file(quota: &Arc<Quota>) -> Arc<CachedFile> {
    let cached_file = Arc::new(CachedFile::for_tests(C, 4 * C));
    write(&cached_file, quota, 0..4);
    cached_file
}

fn write(cached_file: &Arc<CachedFile>, quota: &Arc<Quota>, chunks: Range<u64>) {
    let _filling = cached_file.fill(chunks.clone(), quota);
    let (len, at) = ((chunks.end - chunks.start) * C, chunks.start * C);
    let room = quota.reserve(len).unwrap();
    cached_file
        .write(room, |data| data.write_all_at(&[vec![7; len as usize]], at))
        .unwrap();
    chunks.for_each(|chunk| {
        cached_file.presence.insert(chunk);
    });
}

fn evict(cached_file: &Arc<CachedFile>, chunks: &[u64]) -> Option<(Vec<u64>, i64)> {
    let leaving = cached_file.begin_eviction(chunks)?;
    Some((leaving.chunks.clone(), leaving.punch().counted))
}

#[test]
fn what_is_used_filled_or_held_stays_and_the_rest_goes() {
    let quota = quota();
    let cached_file = cached_file(&quota);
    let hold = cached_file.hold_if_complete().unwrap();
    assert!(evict(&cached_file, &[0, 1, 2, 3]).is_none() && cached_file.evictable(0).is_empty());
    drop(hold);
    let used = cached_file.use_chunks(0..2);
    let filling = cached_file.fill(3..4, &quota);
    assert_eq!(cached_file.evictable(0), [2]);
    assert_eq!(evict(&cached_file, &[0, 1, 2, 3]), Some((vec![2], -(C as i64))));
    assert!(cached_file.hold_if_complete().is_none());
    drop((used, filling));
    assert_eq!(evict(&cached_file, &[0, 1, 2, 3]), Some((vec![0, 1, 3], -3 * C as i64)));
}

#[test]
fn a_chunk_that_is_wanted_again_while_it_leaves_stays() {
    let quota = quota();
    let cached_file = cached_file(&quota);
    let leaving = cached_file.begin_eviction(&[1, 2]).unwrap();
    assert!(!cached_file.presence.contains(1));
    write(&cached_file, &quota, 1..2);
    assert_eq!(leaving.punch().freed, C);
    let mut back = [0; 3 * C as usize];
    cached_file.read_exact_at(&mut back, C).unwrap();
    assert!(cached_file.presence.contains(1) && back[..C as usize] == [7; C as usize]);
    assert!(back[C as usize..2 * C as usize] == [0; C as usize]);
}

#[test]
fn evicting_chunk_is_not_reloaded_from_the_index() {
    let quota = quota();
    let cached_file = cached_file(&quota);
    let leaving = cached_file.begin_eviction(&[1]).unwrap();
    cached_file.learn(|| vec![0, 1]);
    assert!(!cached_file.presence.contains(1));
    assert_eq!(leaving.punch().freed, C);
}

#[test]
fn a_fetch_that_ends_within_a_chunk_leaves_nothing_behind() {
    let quota = quota();
    let cached_file = Arc::new(CachedFile::for_tests(C, 4 * C));
    let (one, other) = (cached_file.fill(1..3, &quota), cached_file.fill(2..3, &quota));
    let room = quota.reserve(2 * C).unwrap();
    let half = |data: &DataFile| data.write_all_at(&[[7; 2 * C as usize]], C);
    cached_file.write(room, half).unwrap();
    assert_eq!(
        cached_file.trim(false, |_| Some(Vec::new())).freed,
        0,
        "it is being filled"
    );
    drop(one);
    assert_eq!(
        cached_file.trim(false, |_| Some(Vec::new())).freed,
        C,
        "the other one still fills chunk 2"
    );
    let used = cached_file.use_chunks(2..3);
    drop(other);
    assert_eq!(
        cached_file.trim(false, |_| Some(Vec::new())).freed,
        0,
        "a reader was woken for it"
    );
    drop(used);
    assert_eq!(cached_file.trim(false, |_| Some(Vec::new())).freed, C);
}

#[test]
fn lost_chunk_is_not_reloaded_from_the_index() {
    let quota = quota();
    let cached_file = cached_file(&quota);
    cached_file.lose(1);
    cached_file.learn(|| vec![0, 1]);
    assert!(cached_file.presence.contains(0) && !cached_file.presence.contains(1));
    write(&cached_file, &quota, 1..2);
    cached_file.presence.remove(1);
    cached_file.learn(|| vec![1]);
    assert!(cached_file.presence.contains(1), "it has come again since");
}

#[test]
fn restarted_unverified_chunk_is_not_reloaded_from_the_index() {
    let quota = quota();
    let cached_file = Arc::new(CachedFile::for_tests(C, 4 * C));
    cached_file.unverified.put_back(1, 7);
    let leaving = cached_file.begin_eviction(&[1]).unwrap();
    let filling = cached_file.fill(1..2, &quota);
    cached_file.learn(|| vec![1]);
    assert!(!cached_file.presence.contains(1) && cached_file.unverified.contains(1));
    drop((filling, leaving));
}

#[test]
fn possibly_recorded_blocks_are_kept_while_unknown() {
    let quota = quota();
    let cached_file = Arc::new(CachedFile::for_tests(C, 4 * C));
    let filling = cached_file.fill(1..2, &quota);
    let room = quota.reserve(C).unwrap();
    let write = |data: &DataFile| data.write_all_at(&[[7; C as usize]], C);
    cached_file.write(room, write).unwrap();
    drop(filling);
    assert_eq!(cached_file.trim(false, |_| None).freed, 0);
    assert_eq!(
        cached_file.trim(false, |_| Some(Vec::new())).freed,
        C,
        "it is tried again"
    );
}
