//! The random events.

use proptest::prelude::*;

use super::C;

/// One event. Numbers choose among the existing items at that moment, modulo their count.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Open {
        origin: bool,
        listed: u64,
        size: u64,
        present: u64,
        ignores_range: bool,
    },
    Wait {
        entry: usize,
        start: u64,
        len: u64,
        ahead: u64,
    },
    WaitPatiently {
        entry: usize,
        start: u64,
        len: u64,
        priority: usize,
    },
    Request {
        entry: usize,
        start: u64,
        chunks: u64,
        priority: usize,
    },
    /// The answer's head comes. It settles the entry.
    Answer {
        fetch: usize,
    },
    /// A redirect leads a fetch to another origin, or back.
    Leads {
        fetch: usize,
        origin: bool,
    },
    /// An answer comes from one of the origins, whatever redirects have said.
    ComesFrom {
        fetch: usize,
        origin: bool,
    },
    /// The downloader receives the current end of its fetch.
    Hear {
        fetch: usize,
    },
    /// Bytes are written, and chunks marked present. Nothing is reported yet.
    Write {
        fetch: usize,
        bytes: u64,
    },
    /// The progress is reported to the scheduler.
    Report {
        fetch: usize,
    },
    /// The fetch has come to its end.
    Finish {
        fetch: usize,
    },
    Fail {
        fetch: usize,
        changed: bool,
    },
    GiveUp {
        waiter: usize,
    },
    /// Windows of the entry change.
    WindowUpdate {
        entry: usize,
        stream: u64,
        start: u64,
        chunks: u64,
        how: u8,
    },
    /// One of the entry's readers leaves.
    Leave {
        entry: usize,
        reader: u64,
    },
    EndReadAhead {
        entry: usize,
    },
    /// A present chunk is evicted. The scheduler may notice it later.
    Evict {
        entry: usize,
        chunk: u64,
        is_told: bool,
    },
    /// Another entry of the same file, or another mount, has brought a chunk. Nothing is reported.
    BroughtByAnother {
        entry: usize,
        chunk: u64,
    },
    /// Time has passed in which every fetch should have brought something.
    PeriodPasses,
    Close,
}

/// Small files, and the chunks within them that matter: the first, the last, those past the end.
const SIZES: std::ops::Range<u64> = 0..40 * C;

pub(super) fn event() -> impl Strategy<Value = Event> {
    let which = 0..usize::MAX;
    let fetch = which.clone();
    prop_oneof![
        2 => (any::<bool>(), SIZES, SIZES, any::<u64>(), 0..4u8, 0..12u8).prop_map(|(origin, listed, size, present, right, ignores)| {
            // Most listings are right, most servers honour Range, and few chunks are present at
            // first.
            let listed = if right > 0 { size } else { listed };
            Event::Open { origin, listed, size, present: present & (present >> 32), ignores_range: ignores == 0 }
        }),
        6 => (which.clone(), SIZES, 0..12 * C, 0..20u64).prop_map(|(entry, start, len, ahead)| Event::Wait { entry, start, len, ahead }),
        2 => (which.clone(), SIZES, 0..40 * C, 1..4usize).prop_map(|(entry, start, len, priority)| Event::WaitPatiently { entry, start, len, priority }),
        3 => (which.clone(), 0..42u64, 0..40u64, 1..4usize).prop_map(|(entry, start, chunks, priority)| Event::Request { entry, start, chunks, priority }),
        6 => fetch.clone().prop_map(|fetch| Event::Answer { fetch }),
        3 => (fetch.clone(), any::<bool>()).prop_map(|(fetch, origin)| Event::Leads { fetch, origin }),
        1 => (fetch.clone(), any::<bool>(), 0..4u8).prop_map(|(fetch, origin, comes)| match comes {
            0 => Event::ComesFrom { fetch, origin },
            _ => Event::Leads { fetch, origin },
        }),
        2 => fetch.clone().prop_map(|fetch| Event::Hear { fetch }),
        8 => (fetch.clone(), 1..9 * C).prop_map(|(fetch, bytes)| Event::Write { fetch, bytes }),
        6 => fetch.clone().prop_map(|fetch| Event::Report { fetch }),
        4 => fetch.clone().prop_map(|fetch| Event::Finish { fetch }),
        1 => (fetch, 0..4u8).prop_map(|(fetch, changed)| Event::Fail { fetch, changed: changed == 0 }),
        1 => which.clone().prop_map(|waiter| Event::GiveUp { waiter }),
        4 => (which.clone(), 0..20u64, 0..42u64, 0..20u64, 0..6u8).prop_map(|(entry, stream, start, chunks, how)| Event::WindowUpdate { entry, stream, start, chunks, how }),
        1 => (which.clone(), 0..2u64).prop_map(|(entry, reader)| Event::Leave { entry, reader }),
        1 => which.clone().prop_map(|entry| Event::EndReadAhead { entry }),
        4 => (which.clone(), 0..40u64, any::<bool>()).prop_map(|(entry, chunk, is_told)| Event::Evict { entry, chunk, is_told }),
        3 => (which, 0..40u64).prop_map(|(entry, chunk)| Event::BroughtByAnother { entry, chunk }),
        1 => Just(Event::PeriodPasses),
    ]
}
