//! The slowest recent reads, with what each waited for and what to do: `fetchfs explain`.

mod advice;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::context::Control;
use super::protocol::{Failure, Reply, TreePath};
use crate::cache::{OpenReader, WaitingRead};
use crate::http::redact;
use crate::stats::{self, MissReason, Phase, Process, ReadTotals};
use crate::vfs::Node;
use advice::Facts;

/// Most reads that are reported of a directory.
const MOST_OF_DIRECTORY: usize = 64;

/// How the reads of a file went, or of the files in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// The path, below the mountpoint.
    pub path: TreePath,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// All reads of a file; of the mountpoint, those of all files since the mount began. `None` for other directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<ReadSums>,
    /// The slowest reads of the last time, the slowest first; before them those that wait now.
    pub slow: Vec<SlowRead>,
}

/// The sum of reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadSums {
    /// Reads that did not wait.
    pub cached: u64,
    /// How long they took together, in microseconds.
    pub cached_us: u64,
    /// Reads that waited and got their bytes.
    pub waited: u64,
    /// How long they took together, in microseconds.
    pub waited_us: u64,
    /// Reads that failed.
    pub failed: u64,
    /// How long the longest took that got its bytes, in microseconds.
    pub longest_us: u64,
    /// Whether the kernel reads a part of it by itself (passthrough), which is counted nowhere.
    pub is_passthrough: bool,
}

/// How far a slow read has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReadState {
    /// It waits now.
    Waiting,
    /// It got its bytes.
    Done,
    /// It ended with an error, or was interrupted.
    Failed,
}

/// A read that took long, or takes long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlowRead {
    /// The path of its file below the mountpoint; `None` if no listing in memory has it any more.
    pub path: Option<TreePath>,
    /// The URL of its file, without secrets.
    pub url: String,
    /// How far it has come.
    pub state: ReadState,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// Byte offset in the file; of a read that waits, the first byte that it misses.
    pub offset: u64,
    /// Bytes that it asked for; of a read that waits, from `offset` on.
    pub length: u64,
    /// How long it took, in microseconds; of a read that waits, so far.
    pub took_us: u64,
    /// Why its bytes were not in the cache; `None` if they were, or if it has no bytes yet.
    pub miss: Option<MissReason>,
    /// The process that made it, if it is known.
    pub process: Option<Process>,
    /// The last server that answered for it, if one did: scheme, host and port.
    pub server: Option<String>,
    /// How long it waited for what, in microseconds. The sum is `took_us`.
    pub times_us: BTreeMap<Phase, u64>,
    /// What it waited for longest.
    pub mostly: Phase,
    /// What to do: one or two sentences.
    pub advice: String,
}

/// A slow read, and when to speak of it.
struct Found {
    ino: Option<u64>,
    state: ReadState,
    read: stats::SlowRead,
}

impl Control {
    /// How the reads of these files went, and the slowest of them. Asks no server for more than their names.
    pub(super) async fn explain(&self, paths: Vec<TreePath>) -> Reply {
        let (mut files, mut failures) = (Vec::new(), Vec::new());
        let Some(facts) = self.facts().await else {
            let reason = "the mount is shutting down".to_owned();
            return Reply::Refused { reason };
        };
        for path in paths {
            match self.tree.find(path.names()).await {
                Ok((_, node)) => {
                    let found = self.explain_node(path.clone(), &node, &facts).await;
                    files.extend(found);
                }
                Err(error) => failures.push(Failure {
                    path,
                    reason: error.to_string(),
                }),
            }
        }
        Reply::Explained { files, failures }
    }

    async fn explain_node(&self, path: TreePath, node: &Arc<Node>, facts: &Facts) -> Option<Explained> {
        let (readers, manager) = (Arc::clone(&self.readers), Arc::clone(self.cache.manager()));
        let (is_directory, ino) = (node.is_directory(), node.attributes().ino);
        let url = node.url().map(|url| redact(&url).to_string());
        // Looks at `/proc`.
        let found = self.with_cache(move |_| {
            let open = readers.open();
            let waiting = manager.waiting_reads();
            let waiting = waiting.iter().map(|read| waiting_now(read, &open));
            let waiting = waiting.filter(|found| is_directory || Some(&found.read.url) == url.as_ref());
            let of_node = |reader: &&Arc<OpenReader>| is_directory || reader.ino == ino;
            let is_passthrough = open.iter().filter(of_node).any(|reader| reader.is_passthrough());
            let (totals, ended) = match is_directory {
                true => (readers.totals(), readers.log().all()),
                false => {
                    let (mut totals, slow) = readers.log().of_file(ino);
                    let open = open.iter().filter(of_node);
                    open.for_each(|reader| totals += reader.counts.totals());
                    (totals, slow.into_iter().map(|read| (ino, read)).collect())
                }
            };
            let ended = ended.into_iter().map(|(ino, read)| Found {
                ino: Some(ino),
                state: if read.error.is_some() {
                    ReadState::Failed
                } else {
                    ReadState::Done
                },
                read,
            });
            (sums(&totals, is_passthrough), waiting.chain(ended).collect::<Vec<_>>())
        });
        let (sums, found) = found.await?;
        let is_root = path.as_path() == Path::new("");
        let mut slow: Vec<SlowRead> = found.into_iter().map(|found| self.shown(found, facts)).collect();
        if is_directory && !is_root {
            let is_inside = |read: &SlowRead| {
                let inside = read.path.as_ref();
                inside.is_some_and(|inside| inside.as_path().starts_with(path.as_path()))
            };
            slow.retain(is_inside);
        }
        slow.sort_by_key(|read| (read.state != ReadState::Waiting, std::cmp::Reverse(read.took_us)));
        slow.truncate(MOST_OF_DIRECTORY);
        Some(Explained {
            path,
            is_directory,
            reads: (!is_directory || is_root).then_some(sums),
            slow,
        })
    }

    fn shown(&self, found: Found, facts: &Facts) -> SlowRead {
        let Found { ino, state, read } = found;
        let times = Phase::ALL
            .into_iter()
            .map(|phase| (phase, microseconds(read.times[phase])));
        let at = read.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = ino.and_then(|ino| self.tree.path_of(ino)).and_then(TreePath::new);
        SlowRead {
            advice: facts.advice(&read, state, path.as_ref()),
            path,
            state,
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            offset: read.offset,
            length: read.len,
            took_us: microseconds(read.took),
            miss: read.reason,
            process: read.process,
            server: read.server,
            times_us: times.filter(|(_, time)| *time > 0).collect(),
            mostly: read.times.longest(),
            url: read.url,
            error: read.error,
        }
    }

    async fn facts(&self) -> Option<Facts> {
        let options = Arc::clone(&self.options);
        let options = self.with_cache(move |_| options.get(None).unwrap_or_default()).await?;
        let value = |key: &str| {
            let option = options.iter().find(|option| option.key == key);
            option.and_then(|option| option.value.clone())
        };
        Some(Facts {
            mountpoint: self.about.mountpoint.clone(),
            cache_dir: self.about.cache_dir.clone(),
            most_connections: value("max_connections").and_then(|most| most.parse().ok()).unwrap_or(0),
            bwlimit: value("bwlimit").filter(|limit| limit != "off"),
            servers: self.cache.manager().status(),
            down: self.tree.servers_down(),
        })
    }
}

/// A read that waits, as far as it has come.
fn waiting_now(read: &WaitingRead, open: &[Arc<OpenReader>]) -> Found {
    let size = read.entry.size();
    let is_of = |reader: &&Arc<OpenReader>| {
        let entry = reader.entry.upgrade();
        entry.is_some_and(|entry| entry.url() == read.entry.url())
    };
    let mut readers = open.iter().filter(is_of);
    let reader = readers.next();
    // With several, it is not known which of them waits.
    let only = reader.filter(|_| readers.next().is_none());
    Found {
        ino: reader.map(|reader| reader.ino),
        state: ReadState::Waiting,
        read: stats::SlowRead {
            url: redact(read.entry.url()).to_string(),
            offset: read.bytes.start,
            len: read.bytes.end.min(size.max(read.bytes.start)) - read.bytes.start,
            began: SystemTime::now() - read.waited,
            took: read.so_far.times.total(),
            times: read.so_far.times,
            reason: None,
            server: read.so_far.server.as_ref().map(ToString::to_string),
            process: only.and_then(|reader| Process::of_thread(reader.counts.thread())),
            error: None,
        },
    }
}

fn sums(totals: &ReadTotals, is_passthrough: bool) -> ReadSums {
    ReadSums {
        cached: totals.hit_reads,
        cached_us: totals.hit_latency.nanoseconds / 1000,
        waited: totals.miss_reads,
        waited_us: totals.miss_nanoseconds / 1000,
        failed: totals.failed_reads,
        longest_us: totals.longest_nanoseconds / 1000,
        is_passthrough,
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
