//! Prefetch jobs, which run in the background.
//!
//! - A job is recorded in the cache's index before its first request, and the record is deleted when it is done. So
//!   the next mount of the same source resumes it, however this mount ends.
//! - Of several mounts over one cache, one runs a job. Cancelling it at any of them ends it.
//! - Failures are retried after a growing pause. Permanent failures, such as a 404 or an invalid request, are logged,
//!   and the job ends without them.
//! - What this mount can't do as mounted (too small a cache) stays for the next mount.
//! - While the mount is offline, jobs wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use xxhash_rust::xxh3::xxh3_128;

use super::prefetch::{self, Again, Failed, Tally, Tools};
use super::protocol::{Failure, JobState, Wanted};
use crate::cache::{JobLease, JobRow};
use crate::source::SourceSpec;
use crate::util::events;
use crate::util::plural::count;

/// Pause before the first retry. A fetch has already retried for some seconds before it fails.
const FIRST_PAUSE: Duration = Duration::from_secs(15);

/// Longest pause. A server that was down for a night is used again soon enough.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How often a waiting mount checks whether the mount that runs a job is gone. A check is a few system calls.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The jobs of a mount.
pub(super) struct Jobs {
    tools: Tools,
    runtime: Handle,
    /// Identifies the mounted sources in the records.
    source: String,
    /// Locked briefly. Records are queued under it, so their order is that of the changes.
    state: Mutex<State>,
}

/// How long, and how many, jobs are listed that are done.
const DONE_SHOWN: Duration = Duration::from_secs(600);
const MOST_DONE: usize = 20;

#[derive(Default)]
struct State {
    jobs: BTreeMap<u64, Job>,
    last: u64,
    /// The last jobs that are done, the latest last.
    done: VecDeque<(JobState, Instant)>,
}

struct Job {
    key: String,
    wanted: Wanted,
    tally: Arc<Tally>,
    waits_for: Option<Failure>,
    task: AbortHandle,
}

impl State {
    fn number_of(&self, key: &str) -> Option<u64> {
        let job = self.jobs.iter().find(|(_, job)| job.key == key);
        job.map(|(&number, _)| number)
    }
}

/// The key of a mount's sources in records. It is the same for the same URLs, in any order and with any credentials.
pub(super) fn source_key(sources: &[SourceSpec]) -> String {
    let mut plain: Vec<String> = sources
        .iter()
        .map(|source| {
            let mut url = source.url.clone();
            // These calls fail only for URLs that can't have credentials.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.into()
        })
        .collect();
    plain.sort_unstable();
    hash(&plain.join("\n"))
}

fn hash(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

impl Jobs {
    pub(super) fn new(tools: Tools, runtime: Handle, source: String) -> Arc<Jobs> {
        Arc::new(Jobs {
            tools,
            runtime,
            source,
            state: Mutex::default(),
        })
    }

    /// Ends all jobs. Their records stay, so that the next mount resumes them.
    pub(super) fn stop(&self) {
        self.state.lock().jobs.values().for_each(|job| job.task.abort());
    }

    /// Resumes the jobs that an earlier mount left. Blocks for a query.
    pub(super) fn resume(self: &Arc<Self>) {
        for row in self.tools.cache.jobs(&self.source) {
            match serde_json::from_str(&row.wanted) {
                Ok(wanted) => {
                    let job = self.begin(&mut self.state.lock(), row.key, wanted);
                    log::info!(event = events::JOB_RESUMED; "prefetch job {job} resumed");
                }
                Err(error) => {
                    log::warn!(
                        event = events::JOB_DROPPED;
                        "a prefetch job of an earlier mount can't be read ({error}); it is dropped"
                    );
                    self.tools.cache.forget_job(&row.key);
                }
            }
        }
    }

    /// Records a job and starts it, unless the same job runs already. Blocks until it is recorded; `None` if that
    /// fails.
    pub(super) fn start(self: &Arc<Self>, wanted: Wanted) -> Option<u64> {
        let text = serde_json::to_string(&wanted).expect("plain values can be written as JSON");
        let key = hash(&format!("{}\n{text}", self.source));
        let row = JobRow {
            key: key.clone(),
            source: self.source.clone(),
            wanted: text,
        };
        if let Some(number) = self.state.lock().number_of(&key) {
            return Some(number);
        }
        if !self.tools.cache.record_job(row) {
            return None;
        }
        let mut state = self.state.lock();
        // The same job may have been started meanwhile.
        let begun = state.number_of(&key);
        Some(begun.unwrap_or_else(|| self.begin(&mut state, key, wanted)))
    }

    fn begin(self: &Arc<Self>, state: &mut State, key: String, wanted: Wanted) -> u64 {
        let tally = Arc::new(Tally::default());
        state.last += 1;
        let number = state.last;
        // The task looks its own entry up to report; the lock is held until the entry exists.
        let task = Arc::clone(self).run(number, key.clone(), wanted.clone(), Arc::clone(&tally));
        let task = self.runtime.spawn(task);
        let job = Job {
            key,
            wanted,
            tally,
            waits_for: None,
            task: task.abort_handle(),
        };
        state.jobs.insert(number, job);
        number
    }

    /// Cancels a job and deletes its record. Returns false if there is none with this number.
    pub(super) fn cancel(&self, number: u64) -> bool {
        let job = self.remove(number);
        job.iter().for_each(|job| job.task.abort());
        job.is_some()
    }

    fn remove(&self, number: u64) -> Option<Job> {
        let mut state = self.state.lock();
        let job = state.jobs.remove(&number)?;
        self.tools.cache.forget_job(&job.key);
        Some(job)
    }

    /// Number of jobs.
    pub(super) fn count(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// The state of each job, and of those that were done lately.
    pub(super) fn list(&self) -> Vec<JobState> {
        let state = self.state.lock();
        let shown = state.jobs.iter().map(|(&number, job)| JobState {
            job: number,
            wanted: job.wanted.clone(),
            progress: job.tally.progress(),
            waits_for: job.waits_for.clone(),
            done_for: None,
        });
        let done = state.done.iter().filter(|(_, at)| at.elapsed() < DONE_SHOWN);
        let done = done.map(|(job, at)| JobState {
            done_for: Some(at.elapsed().as_secs()),
            ..job.clone()
        });
        shown.chain(done).collect()
    }

    async fn run(self: Arc<Self>, number: u64, key: String, wanted: Wanted, tally: Arc<Tally>) {
        let waits = |reason: &str| Failure {
            path: wanted.paths.first().cloned().unwrap_or_default(),
            reason: reason.to_owned(),
        };
        self.until_online(number, &wanted).await;
        let taken = waits("another mount of the same cache fetches it");
        let Some(turn) = self.turn(number, &key, taken).await else {
            log::info!(event = events::JOB_GONE; "prefetch job {number} was finished or cancelled by another mount");
            self.remove(number);
            return;
        };
        tokio::select! {
            () = self.work(number, wanted, tally, turn) => {}
            () = self.forgotten(number, &key) => {
                log::info!(event = events::JOB_CANCELLED; "prefetch job {number} was cancelled by another mount");
                self.remove(number);
            }
        }
    }

    /// Returns when the mount may use the network.
    async fn until_online(&self, number: u64, wanted: &Wanted) {
        if !self.tools.tree.is_offline() {
            return;
        }
        let why = Failure {
            path: wanted.paths.first().cloned().unwrap_or_default(),
            reason: "this mount is offline; it continues after `fetchfs set MOUNTPOINT offline=false`, or in the next \
                     mount"
                .to_owned(),
        };
        self.wait_for(number, why);
        while self.tools.tree.is_offline() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.note(number, |job| job.waits_for = None);
    }

    /// Returns when the record of a job is gone: it was cancelled by another mount that waits for it.
    async fn forgotten(&self, number: u64, key: &str) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let (cache, source, wanted) = (Arc::clone(&self.tools.cache), self.source.clone(), key.to_owned());
            let is_left = tokio::task::spawn_blocking(move || cache.has_job(&source, &wanted)).await;
            // A finished job is removed here first, then from the index.
            if matches!(is_left, Ok(Some(false))) && self.state.lock().jobs.contains_key(&number) {
                return;
            }
        }
    }

    /// Fetches until everything available is cached. Returns when the job is done.
    async fn work(&self, number: u64, mut wanted: Wanted, mut tally: Arc<Tally>, turn: JobLease) {
        let mut pause = FIRST_PAUSE;
        let mut for_the_next_mount = None;
        loop {
            let failed = prefetch::run(self.tools.clone(), wanted.clone(), Arc::clone(&tally)).await;
            if failed.iter().any(|failed| failed.error.is_end_of_mount()) {
                return;
            }
            let of_kind = |again| failed.iter().filter(move |failed| failed.error.again() == again);
            for_the_next_mount = for_the_next_mount.or_else(|| of_kind(Again::NextMount).next().map(Failed::told));
            let Some(first) = of_kind(Again::Later).next() else {
                break;
            };
            wanted.paths = of_kind(Again::Later).map(|failed| failed.path.clone()).collect();
            log::info!(
                event = events::JOB_RETRYING;
                "prefetch job {number}: {} paths failed, the first with \"{}\"; retrying in {pause:?}",
                wanted.paths.len(),
                first.error
            );
            self.wait_for(number, first.told());
            if self.tools.tree.is_offline() {
                self.until_online(number, &wanted).await;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            tally = Arc::new(Tally::default());
            self.note(number, |job| {
                job.waits_for = None;
                job.tally = Arc::clone(&tally);
            });
        }
        match for_the_next_mount {
            Some(why) => {
                log::warn!(
                    event = events::JOB_WAITING;
                    "prefetch job {number} is left to the next mount: {}", why.reason
                );
                self.wait_for(number, why);
                // Waits until it is cancelled.
                std::future::pending().await
            }
            None => self.finish(number, turn).await,
        }
    }

    /// Waits until no other mount runs the job. `None` if it was done meanwhile.
    async fn turn(&self, number: u64, key: &str, taken: Failure) -> Option<JobLease> {
        if let Some(turn) = self.tools.cache.take_job(key) {
            return Some(turn);
        }
        self.wait_for(number, taken);
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Some(turn) = self.tools.cache.take_job(key) {
                let (cache, source, key) = (Arc::clone(&self.tools.cache), self.source.clone(), key.to_owned());
                let is_left = tokio::task::spawn_blocking(move || cache.has_job(&source, &key)).await;
                self.note(number, |job| job.waits_for = None);
                // The query fails only while the mount is shutting down.
                return matches!(is_left, Ok(Some(true) | None)).then_some(turn);
            }
        }
    }

    fn wait_for(&self, number: u64, why: Failure) {
        self.note(number, |job| job.waits_for = Some(why));
    }

    fn note(&self, number: u64, note: impl FnOnce(&mut Job)) {
        // It may have been cancelled a moment ago.
        if let Some(job) = self.state.lock().jobs.get_mut(&number) {
            note(job);
        }
    }

    fn note_done(&self, job: JobState) {
        let mut state = self.state.lock();
        state.done.push_back((job, Instant::now()));
        if state.done.len() > MOST_DONE {
            state.done.pop_front();
        }
    }

    async fn finish(&self, number: u64, turn: JobLease) {
        let Some(job) = self.remove(number) else { return };
        let done = job.tally.progress();
        self.note_done(JobState {
            job: number,
            wanted: job.wanted,
            progress: done,
            waits_for: None,
            done_for: None,
        });
        log::info!(
            event = events::JOB_DONE;
            "prefetch job {number} is done: {}, {} fetched, {} failed",
            count(done.files, "file"),
            count(done.bytes_fetched, "byte"),
            done.failed
        );
        // The next mount that takes the lease must see that the job is done.
        let cache = Arc::clone(&self.tools.cache);
        let _ = tokio::task::spawn_blocking(move || cache.sync_index()).await;
        drop(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_the_same_in_any_order_and_for_any_user() {
        let key = |urls: &[&str]| source_key(&urls.iter().map(|url| SourceSpec::of(url).unwrap()).collect::<Vec<_>>());
        assert_eq!(
            key(&["http://ann:pw@h/a/", "http://h/b"]),
            key(&["http://h/b", "http://h/a/"])
        );
        assert_ne!(key(&["http://h/a/"]), key(&["http://h/b/"]));
    }
}
