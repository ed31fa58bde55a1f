//! The eviction policy: which chunks are evicted first, as pure functions over the recorded uses.
//!
//! **State.** Each segment of 64 chunks (16 MiB by default) has twelve bytes: when it was last
//! used, by which open handle, and whether it was used more than once. Time is a **logical clock**:
//! the total bytes ever added to the cache. So an idle cache forgets nothing, and a busy one
//! forgets as fast as it must.
//!
//! **Rule.** The segment with the lowest rank is evicted first, its chunks in the order of the
//! file:
//!
//! > rank = last use + jitter + (used more than once: four times the size of the cache)
//!
//! - **Last use** makes it LRU.
//! - **Used more than once** protects from scans. What was read once, however much, is evicted
//!   before what was read by two handles, or again after a while. The protection ends when four
//!   cache sizes were added since the last use, so a hot set that has cooled off is evicted, too.
//! - **Jitter**, a hash of the place between zero and twice the size of the cache, keeps loops
//!   alive. Plain LRU evicts what a loop over more than the cache needs soonest, and has no hits.
//!   With jitter a part survives the first iteration, is used a second time, and is protected from
//!   then on. (With one and a half times the size, a loop over 1.5 times the cache hits 32 %
//!   instead of 46, and a hot set beside a scan 48 instead of 46.)
//!
//! **Scanners** (thumbnailers, indexers, media scanners) leave no trace here: their reads are not noted, and a segment of
//! which only a scanner has fetched anything is evicted before all others.
//!
//! A table of hit rates beside plain LRU's is in docs/performance.md; `the_table_of_hit_rates`
//! prints and asserts it.

/// Bytes of one tick of the clock.
pub(crate) const TICK: u64 = 64 << 10;

/// Number of cache sizes added after which repeated use no longer protects.
const REUSED_LASTS: u64 = 4;

/// Jitter in cache sizes: what was used at one time is spread over this.
const JITTER: u64 = 2;

/// [`Use::times`] of a segment that only a scanner has fetched.
const SCANNED: u8 = 3;

/// The rank of such a segment: the lowest but for 0, which the index uses for versions that are not current.
const RANK_OF_SCANNED: u64 = 1;

/// Seconds after which a return of the same handle counts as a second use. Below it, a player seeks
/// back.
const NEW_USE_SECONDS: u32 = 60;

/// The time and the handle of a use.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The logical clock, in [`TICK`]s.
    pub clock: u64,
    /// Seconds since 1970.
    pub seconds: u32,
    /// The low bits of the open handle's number.
    pub handle: u16,
    /// The size of the cache, in [`TICK`]s.
    pub cache: u64,
}

/// The recorded use of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// The logical clock at the last use, in [`TICK`]s; less than 2⁴⁰, which is 64 EiB.
    pub clock: u64,
    /// Seconds since 1970 at the last use.
    pub seconds: u32,
    handle: u16,
    /// 0: never used; 1: once; 2: more than once; [`SCANNED`].
    times: u8,
}

impl Use {
    /// The use of a segment that was used once by this time, without further knowledge.
    pub fn once(clock: u64, seconds: u32) -> Use {
        Use {
            clock,
            seconds,
            handle: 0,
            times: 1,
        }
    }

    /// The state after one more use.
    #[must_use]
    pub fn after(self, moment: &Moment) -> Use {
        let far = moment.clock.saturating_sub(self.clock) > moment.cache / 8;
        let is_new =
            self.handle != moment.handle || far || moment.seconds.saturating_sub(self.seconds) >= NEW_USE_SECONDS;
        Use {
            clock: moment.clock,
            seconds: moment.seconds,
            handle: moment.handle,
            times: match self.times {
                0 | SCANNED => 1,
                times => (times + u8::from(is_new)).min(2),
            },
        }
    }

    /// The state after bytes of it were fetched, which have no use yet.
    #[must_use]
    pub fn renewed(self, moment: &Moment) -> Use {
        Use {
            clock: moment.clock,
            seconds: moment.seconds,
            times: if self.times == SCANNED { 0 } else { self.times },
            ..self
        }
    }

    /// The state after the first bytes of it were fetched, by a scanner.
    #[must_use]
    pub fn scanned(moment: &Moment) -> Use {
        Use {
            clock: moment.clock,
            seconds: moment.seconds,
            handle: 0,
            times: SCANNED,
        }
    }

    /// The lower is evicted first. `place` is a hash of the segment's identity; `cache` the size of
    /// the cache in [`TICK`]s.
    pub fn rank(self, place: u64, cache: u64) -> u64 {
        if self.times == SCANNED {
            return RANK_OF_SCANNED;
        }
        let jitter = place % (JITTER * cache).max(1);
        let protection = if self.times > 1 { REUSED_LASTS * cache } else { 0 };
        self.clock + jitter + protection
    }

    /// The rank of a segment of an open file, at this time of the clock. What was fetched or used
    /// within the last eighth of the cache's size is evicted after all else that was used once: it
    /// may have been fetched ahead of a reader that has yet to reach it.
    pub fn rank_while_open(self, place: u64, cache: u64, clock: u64) -> u64 {
        let is_new = self.times != SCANNED && clock.saturating_sub(self.clock) < cache / 8;
        self.rank(place, cache) + if is_new { JITTER * cache } else { 0 }
    }

    /// Eight and four bytes: they fit into two atomics, and into a column.
    pub fn pack(self) -> (u64, u32) {
        (
            self.clock << 24 | u64::from(self.handle) << 8 | u64::from(self.times),
            self.seconds,
        )
    }

    /// The inverse of [`Self::pack`].
    pub fn unpack(packed: u64, seconds: u32) -> Use {
        Use {
            clock: packed >> 24,
            seconds,
            handle: (packed >> 8) as u16,
            times: (packed as u8).min(SCANNED),
        }
    }
}

/// The hash for [`Use::rank`]: the same in every process.
pub(crate) fn place(entry: &str, segment: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(entry.as_bytes(), segment)
}

#[cfg(test)]
mod tests;
