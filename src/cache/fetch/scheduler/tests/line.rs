//! A simulated line: the rates of readers over sixteen connections of 20 MB/s with 50 ms before
//! each answer (the profile `wan` of `make bench`), and over some others.
//!
//! Time is simulated, so the figures are the same on any machine. They show the cost of the
//! decisions of scheduler and read-ahead, without that of a kernel, a disk or a processor.
//!
//! The asserted figures are a little below the measured ones. After a change of a constant of
//! fetches or windows, `--nocapture` shows its effect; [`figures`] prints more of them.

mod figures;
mod rates;

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::*;
use crate::cache::fetch::readahead::{Conditions, ReadAhead};
use crate::cache::lifecycle::builder::{FETCH_LEN, SPLIT_DISTANCE};
use crate::origin::{Content, ListedSize};

pub(super) const MIB: u64 = 1 << 20;
const CHUNK: u64 = 256 << 10;

/// The properties of a connection.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    /// From a request to the first byte of its answer, in microseconds.
    pub(super) round_trip: u64,
    /// Bytes of one piece, and the time from one piece to the next, in microseconds.
    pub(super) piece: u64,
    pub(super) piece_time: u64,
    /// Bytes per second over all connections together, if that is a limit.
    pub(super) in_all: Option<u64>,
}

/// 50 ms, and 20 MB/s.
pub(super) const FAR: Connection = Connection {
    round_trip: 50_000,
    piece: 200_000,
    piece_time: 10_000,
    in_all: None,
};

/// 50 ms, and 400 kB/s: a server that limits each connection.
const SLOW: Connection = Connection {
    piece: 20_000,
    piece_time: 50_000,
    ..FAR
};

/// Bytes of one read of the kernel.
pub(super) const READ: u64 = 128 << 10;

const CONNECTIONS: usize = 16;

/// The period of [`Scheduler::period_passed`], in microseconds.
const PERIOD: u64 = 500_000;

/// An event at a moment.
enum Happens {
    /// A piece arrives over the connection of this fetch.
    Piece(FetchId),
    /// This program reads on.
    Read(usize),
    /// Half a second has passed.
    Period,
}

/// A program that reads.
pub(super) struct Program {
    entry: Arc<CacheEntry>,
    ahead: ReadAhead,
    /// Where it reads next, and where it ends.
    bytes: Range<u64>,
    /// Where it continues then, and how.
    then: VecDeque<(Range<u64>, Pace)>,
    pace: Pace,
    asked_at: u64,
    /// How long each of its reads took, in microseconds.
    pub(super) took: Vec<u64>,
    /// When it continued elsewhere.
    left_at: Vec<u64>,
    /// When it had read everything.
    pub(super) done_at: Option<u64>,
}

/// The behaviour of a program after each read: it waits for `pause` microseconds, and continues
/// `step` bytes further.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) pause: u64,
    pub(super) step: u64,
}

/// As fast as it can.
pub(super) const IN_SEQUENCE: Pace = Pace { pause: 60, step: READ };

/// A fetch, as the downloader sees it.
struct Transfer {
    order: FetchOrder,
    end: u64,
    position: u64,
    asked_at: u64,
}

/// The conditions of a program's read-ahead.
struct Now {
    time: Duration,
    useful_window: u64,
    is_crowded: bool,
}

impl Conditions for Now {
    fn now(&self) -> Duration {
        self.time
    }

    fn useful_window(&self) -> u64 {
        self.useful_window
    }

    fn is_crowded(&self) -> bool {
        self.is_crowded
    }
}

pub(super) struct Line {
    connection: Connection,
    pub(super) scheduler: Scheduler,
    began: Instant,
    /// Microseconds since the beginning.
    pub(super) now: u64,
    /// Future events, by their moment and a number that orders simultaneous ones.
    agenda: BTreeMap<(u64, u64), Happens>,
    count: u64,
    transfers: HashMap<FetchId, Transfer>,
    waiting: HashMap<WaiterId, usize>,
    pub(super) programs: Vec<Program>,
    requests: u64,
    /// Number of requests whose answer was longer than what was read of it: each costs a
    /// connection.
    broken_off: u64,
    sent: u64,
    /// The connections of files that are served otherwise than the others.
    odd: HashMap<EntryId, Connection>,
}

impl Line {
    pub(super) fn new(connection: Connection) -> Line {
        Line {
            connection,
            scheduler: Scheduler::new(Limits {
                fetches_per_origin: CONNECTIONS,
                fetch_len: FETCH_LEN,
                split_distance: SPLIT_DISTANCE,
                is_throttled: false,
                slice: None,
            }),
            began: Instant::now(),
            now: 0,
            agenda: BTreeMap::new(),
            count: 0,
            transfers: HashMap::new(),
            waiting: HashMap::new(),
            programs: Vec::new(),
            requests: 0,
            broken_off: 0,
            sent: 0,
            odd: HashMap::new(),
        }
    }

    pub(super) fn file(size: u64) -> Arc<CacheEntry> {
        let url = Url::parse("http://far/f").unwrap();
        let origin = Origin::of(&url).unwrap();
        let content = Content::at(url, ListedSize::Exact(size));
        let entry = CacheEntry::unsettled(content, origin, ChunkSize::new(CHUNK).unwrap());
        entry.settle_for_tests(size);
        Arc::new(entry)
    }

    /// A program begins to read a file.
    pub(super) fn reads(&mut self, entry: &Arc<CacheEntry>, bytes: Range<u64>, pace: Pace) -> usize {
        self.reads_all(entry, [bytes], pace)
    }

    /// A program begins to read parts of a file, one after another.
    fn reads_all(&mut self, entry: &Arc<CacheEntry>, parts: impl IntoIterator<Item = Range<u64>>, pace: Pace) -> usize {
        let mut then: VecDeque<_> = parts.into_iter().map(|part| (part, pace)).collect();
        self.programs.push(Program {
            entry: Arc::clone(entry),
            ahead: ReadAhead::new(self.programs.len() as u64, u64::MAX),
            bytes: then.pop_front().unwrap().0,
            then,
            left_at: Vec::new(),
            pace,
            asked_at: 0,
            took: Vec::new(),
            done_at: None,
        });
        let number = self.programs.len() - 1;
        self.at(0, Happens::Read(number));
        number
    }

    fn at(&mut self, delay: u64, what: Happens) {
        self.count += 1;
        self.agenda.insert((self.now + delay, self.count), what);
    }

    /// Runs until there are no more events.
    pub(super) fn run(&mut self) {
        self.at(PERIOD, Happens::Period);
        while let Some(((time, _), what)) = self.agenda.pop_first() {
            if self.agenda.is_empty() && self.scheduler.is_idle() && matches!(what, Happens::Period) {
                break;
            }
            self.now = time;
            self.scheduler.set_now(self.began + Duration::from_micros(time));
            match what {
                Happens::Piece(fetch) => self.piece(fetch),
                Happens::Read(program) => self.read(program),
                Happens::Period => {
                    self.scheduler.period_passed();
                    self.at(PERIOD, Happens::Period);
                }
            }
            self.carry_out();
        }
        assert!(self.waiting.is_empty());
    }

    fn piece(&mut self, id: FetchId) {
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return;
        };
        let entry = Arc::clone(&transfer.order.entry);
        let (start, before) = (transfer.order.bytes.start, transfer.position);
        let connection = self.odd.get(&entry.id).copied().unwrap_or(self.connection);
        transfer.position = (before + connection.piece).min(transfer.end);
        let (position, end, asked_at) = (transfer.position, transfer.end, transfer.asked_at);
        self.sent += position - before;
        let settled = entry.settled().unwrap();
        for chunk in entry.chunk.contained(&(start..position), settled.size()) {
            settled.presence.insert(chunk);
        }
        self.scheduler.progress(entry.id, id, position);
        if position < end {
            return self.at(self.next_piece(connection), Happens::Piece(id));
        }
        self.broken_off += u64::from(end < self.transfers[&id].order.bytes.end);
        self.transfers.remove(&id);
        let time = Duration::from_micros((self.now - asked_at - connection.round_trip).max(1));
        let latency = Duration::from_micros(connection.round_trip);
        self.scheduler.measured(&entry.origin, latency, end - start, time);
        self.scheduler.ended(id, Ok(()));
    }

    /// The time of the next piece, beside all others that arrive now.
    fn next_piece(&self, connection: Connection) -> u64 {
        let Connection {
            round_trip,
            piece,
            piece_time,
            in_all,
        } = connection;
        let come = |transfer: &&Transfer| self.now >= transfer.asked_at + round_trip;
        let beside = self.transfers.values().filter(come).count() as u64;
        in_all.map_or(piece_time, |in_all| piece_time.max(piece * beside * 1_000_000 / in_all))
    }

    fn read(&mut self, number: usize) {
        let program = &mut self.programs[number];
        let entry = Arc::clone(&program.entry);
        if program.bytes.is_empty() {
            let Some(next) = program.then.pop_front() else {
                program.done_at = Some(self.now);
                return self.scheduler.leave(entry.id, number as u64);
            };
            (program.bytes, program.pace) = next;
            program.left_at.push(self.now);
        }
        program.asked_at = self.now;
        let bytes = program.bytes.start..(program.bytes.start + READ).min(program.bytes.end);
        let is_here = entry.has_byte_range(&bytes);
        let conditions = Now {
            time: Duration::from_micros(self.now),
            useful_window: self.scheduler.useful_window(&entry),
            is_crowded: self.scheduler.is_crowded(&entry),
        };
        let window_updates = program.ahead.note(&bytes, entry.size(), !is_here, &conditions);
        if is_here {
            self.scheduler.update_windows(&entry, &window_updates);
            self.goes_on(number);
        } else {
            self.count += 1;
            self.waiting.insert(WaiterId(self.count), number);
            self.scheduler
                .wait(&entry, bytes, Priority::Critical, &window_updates, WaiterId(self.count));
        }
    }

    fn goes_on(&mut self, number: usize) {
        let program = &mut self.programs[number];
        program.took.push(self.now - program.asked_at);
        let Pace { pause, step } = program.pace;
        program.bytes.start += step;
        self.at(pause, Happens::Read(number));
    }

    fn carry_out(&mut self) {
        for action in self.scheduler.take_actions() {
            match action {
                Action::Start(order) => {
                    self.requests += 1;
                    let connection = self.odd.get(&order.entry.id).copied().unwrap_or(self.connection);
                    let first = connection.in_all.map_or(0, |_| self.next_piece(connection));
                    self.at(connection.round_trip + first, Happens::Piece(order.id));
                    let transfer = Transfer {
                        end: order.bytes.end,
                        position: order.bytes.start,
                        asked_at: self.now,
                        order,
                    };
                    self.transfers.insert(transfer.order.id, transfer);
                }
                Action::Trim { fetch, end } => {
                    let transfer = self.transfers.get_mut(&fetch).unwrap();
                    transfer.end = end.max(transfer.position);
                }
                Action::Stop(fetch) => {
                    self.broken_off += u64::from(self.transfers.remove(&fetch).is_some());
                }
                Action::Wake(waiter, result) => {
                    result.unwrap();
                    let program = self.waiting.remove(&waiter).unwrap();
                    self.goes_on(program);
                }
            }
        }
    }
}
