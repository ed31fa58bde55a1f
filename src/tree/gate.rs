//! Asking one origin for listings and metadata: how many at once, and how long for something newer than what is known.
//!
//! **What is known is not held back for long.** Who has an old listing or a cached version to go by waits for the origin
//! for [`PATIENCE`] and then goes by that; the question goes on by itself, and its answer counts from when it comes. An
//! origin that let somebody wait so long is **silent** until it answers anything: meanwhile nobody waits for what is
//! known already, and one question at a time finds out whether it is back. Without this every path of three names would
//! cost three timeouts, again and again, as long as a server swallows its requests.
//!
//! For what an earlier mount has left in the index a [`MOMENT`] is all the waiting there is: a new mount shows its tree at
//! once, but where the origin answers as servers in reach do, what it shows is already the newest.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use super::METADATA_CONNECTIONS;
use crate::http::{HttpErrorKind, Origin};

/// How long somebody who has something older waits for the origin's word. Far longer than a server takes that is well,
/// with a new connection and TLS over a bad line; short enough that a person does not give up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long somebody waits for the origin's word who has what an earlier mount was told. A few round trips to the other
/// side of the world; and not yet noticed by a person.
const MOMENT: Duration = Duration::from_millis(300);

/// What the tree keeps of an origin.
pub(super) struct Gate {
    origin: Origin,
    turns: Semaphore,
    is_silent: AtomicBool,
    /// Let somebody wait for a [`MOMENT`], and has not answered anything since.
    is_slow: AtomicBool,
    /// Held by the question that finds out whether a silent origin is back.
    probing: Mutex<()>,
}

impl Gate {
    pub(super) fn new(origin: Origin) -> Gate {
        Gate {
            origin,
            turns: Semaphore::new(METADATA_CONNECTIONS),
            is_silent: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            probing: Mutex::new(()),
        }
    }

    /// A turn to ask.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // An error would mean that the semaphore was closed, which nobody does.
        self.turns.acquire().await.ok()
    }

    /// Notes how a question ended.
    pub(super) fn note(&self, failure: Option<&HttpErrorKind>) {
        match failure {
            Some(HttpErrorKind::TimedOut(_)) => self.is_silent.store(true, Ordering::Release),
            // No answer either, but at what time it came says nothing; or nobody was asked.
            Some(
                HttpErrorKind::Unreachable(_)
                | HttpErrorKind::UnknownHost
                | HttpErrorKind::Interrupted
                | HttpErrorKind::NoCredentials(_)
                | HttpErrorKind::Offline,
            ) => {}
            _ => {
                self.is_slow.store(false, Ordering::Release);
                if self.is_silent.swap(false, Ordering::AcqRel) {
                    log::info!("{} answers again", self.origin);
                }
            }
        }
    }

    /// Runs `ask`, for somebody who has something older to go by. `None` if they shall go by that; then `ask` goes on by
    /// itself, or is left out because another question is under way that tells as much.
    pub(super) async fn ask<T: Send + 'static>(
        &'static self,
        runtime: &Handle,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.is_silent.load(Ordering::Acquire) {
            let probing = self.probing.try_lock().ok()?;
            runtime.spawn(async move {
                ask.await;
                drop(probing);
            });
            return None;
        }
        let asking = runtime.spawn(ask);
        let Ok(answer) = tokio::time::timeout(PATIENCE, asking).await else {
            if !self.is_silent.swap(true, Ordering::AcqRel) {
                log::warn!(
                    "{} does not answer; until it does, directories are shown and cached files served as they were",
                    self.origin
                );
            }
            return None;
        };
        // The task fails only if it panics, or if the runtime is going down.
        answer.ok()
    }

    /// Like [`Self::ask`], for somebody who has what an earlier mount was told.
    pub(super) async fn ask_in_passing<T: Send + 'static>(
        &'static self,
        runtime: &Handle,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let for_asking = runtime.clone();
        let asking = runtime.spawn(async move { self.ask(&for_asking, ask).await });
        if self.is_slow.load(Ordering::Acquire) {
            return None;
        }
        let Ok(answer) = tokio::time::timeout(MOMENT, asking).await else {
            self.is_slow.store(true, Ordering::Release);
            return None;
        };
        // As above.
        answer.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use url::Url;

    fn gate() -> &'static Gate {
        let origin = Origin::of(&Url::parse("http://h/").unwrap()).unwrap();
        Box::leak(Box::new(Gate::new(origin)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_taken_and_a_late_one_is_not_waited_for() {
        let (gate, runtime) = (gate(), Handle::current());
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            1
        };
        assert_eq!(gate.ask(&runtime, takes(PATIENCE / 2)).await, Some(1));
        assert_eq!(gate.ask(&runtime, takes(PATIENCE * 2)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_origin_lets_nobody_wait_and_is_asked_one_question_until_it_answers() {
        let (gate, runtime) = (gate(), Handle::current());
        assert_eq!(gate.ask(&runtime, std::future::pending::<()>()).await, None);
        let (asked, heard) = oneshot::channel();
        let (answer, answered) = oneshot::channel::<()>();
        let probe = async move {
            asked.send(()).unwrap();
            answered.await.unwrap();
            gate.note(None);
        };
        let began = tokio::time::Instant::now();
        assert_eq!(gate.ask(&runtime, probe).await, None);
        heard.await.unwrap();
        let second = async { unreachable!("one question is enough") };
        assert_eq!(gate.ask::<()>(&runtime, second).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        answer.send(()).unwrap();
        drop(gate.probing.lock().await);
        assert_eq!(gate.ask(&runtime, async { 2 }).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_what_an_earlier_mount_was_told_waits_for_a_moment_and_only_once() {
        let (gate, runtime) = (gate(), Handle::current());
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            1
        };
        assert_eq!(gate.ask_in_passing(&runtime, takes(MOMENT / 2)).await, Some(1));
        let began = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(gate.ask_in_passing(&runtime, takes(MOMENT * 2)).await, None);
        }
        assert_eq!(began.elapsed(), MOMENT);
        assert_eq!(
            gate.ask(&runtime, takes(MOMENT * 2)).await,
            Some(1),
            "slow is not silent"
        );
        gate.note(None);
        assert_eq!(gate.ask_in_passing(&runtime, takes(MOMENT / 2)).await, Some(1));
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_a_broken_connection_says_nothing() {
        let gate = gate();
        gate.note(Some(&HttpErrorKind::TimedOut(PATIENCE)));
        gate.note(Some(&HttpErrorKind::Interrupted));
        assert!(gate.is_silent.load(Ordering::Acquire));
        gate.note(Some(&HttpErrorKind::Refused));
        assert!(!gate.is_silent.load(Ordering::Acquire));
    }
}
