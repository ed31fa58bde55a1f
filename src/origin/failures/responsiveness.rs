//! Whether an origin responds in time, and how long callers that know an older answer wait for a newer one.
//!
//! - **Known answers are not held back for long.** A caller with an old listing or a cached version waits [`PATIENCE`] for
//!   the origin and then uses the old answer. The request goes on in the background, and its answer counts when it
//!   arrives.
//! - An origin that let a caller wait that long is **silent** until it answers anything. Meanwhile no caller with a known
//!   answer waits, and one request at a time probes the origin. Otherwise each path of three names would cost three
//!   timeouts while a server swallows requests.
//! - For what an earlier mount stored, the wait is only a [`MOMENT`]. A new mount shows its tree at once; where the origin
//!   answers quickly, it already shows the current state.
//!
//! A silent origin has not failed: whether it may be asked at all is the matter of its [`Health`](super::Health).

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Mutex};

use crate::http::{HttpErrorKind, Origin};
use crate::util::events;

/// How long a caller with an older answer waits for the origin. A healthy server needs far less, with a new connection
/// and TLS over a bad line. A person does not give up within this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a caller with an earlier mount's answer waits for the origin. A few round trips around the world, and too
/// short for a person to notice.
const MOMENT: Duration = Duration::from_millis(300);

/// How one origin responds to requests for names.
pub(crate) struct Responsiveness {
    origin: Origin,
    is_silent: AtomicBool,
    /// An answer took longer than a [`MOMENT`], and the origin has not answered anything since.
    is_slow: AtomicBool,
    /// Held by the request that probes a silent origin.
    probing: Arc<Mutex<()>>,
}

impl Responsiveness {
    pub(crate) fn new(origin: Origin) -> Responsiveness {
        Responsiveness {
            origin,
            is_silent: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            probing: Arc::default(),
        }
    }

    /// Notes how a request ended.
    pub(crate) fn note(&self, failure: Option<&HttpErrorKind>) {
        match failure {
            Some(HttpErrorKind::TimedOut(_)) => self.is_silent.store(true, Ordering::Release),
            // These say nothing of the origin's speed: they are no timely answers, or no request was sent.
            Some(
                HttpErrorKind::Unreachable(_)
                | HttpErrorKind::NoTls
                | HttpErrorKind::Handshake(_)
                | HttpErrorKind::AskAgain
                | HttpErrorKind::UnknownHost
                | HttpErrorKind::NoDescriptors
                | HttpErrorKind::Unanswered
                | HttpErrorKind::Interrupted
                | HttpErrorKind::NoCredentials(_)
                | HttpErrorKind::Offline,
            ) => {}
            _ => {
                self.is_slow.store(false, Ordering::Release);
                if self.is_silent.swap(false, Ordering::AcqRel) {
                    log::info!(event = events::ORIGIN_RESPONSIVE; "{} responds again", self.origin);
                }
            }
        }
    }

    /// Runs `ask` for a caller that has an older answer. `None` if the caller shall use that. Then `ask` goes on in
    /// the background, or is dropped because another request already probes the origin.
    pub(crate) async fn ask<T: Send + 'static>(
        self: Arc<Self>,
        runtime: &Handle,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.is_silent.load(Ordering::Acquire) {
            let probing = Arc::clone(&self.probing).try_lock_owned().ok()?;
            runtime.spawn(async move {
                tokio::pin!(ask);
                // A probe that is itself unanswered keeps the others from asking for no longer than they would wait.
                let answered = tokio::time::timeout(PATIENCE, &mut ask).await;
                drop(probing);
                if answered.is_err() {
                    ask.await;
                }
            });
            return None;
        }
        let asking = runtime.spawn(ask);
        let Ok(answer) = tokio::time::timeout(PATIENCE, asking).await else {
            if !self.is_silent.swap(true, Ordering::AcqRel) {
                log::warn!(
                    event = events::ORIGIN_UNRESPONSIVE;
                    "{} does not respond; serving cached listings and files until it does",
                    self.origin
                );
            }
            return None;
        };
        // The task fails only if it panics or the runtime shuts down.
        answer.ok()
    }

    /// [`Self::ask`] for a caller that has an earlier mount's answer.
    pub(crate) async fn ask_in_passing<T: Send + 'static>(
        self: Arc<Self>,
        runtime: &Handle,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (itself, for_asking) = (Arc::clone(&self), runtime.clone());
        let asking = runtime.spawn(async move { itself.ask(&for_asking, ask).await });
        if self.is_slow.load(Ordering::Acquire) {
            return None;
        }
        let Ok(answer) = tokio::time::timeout(MOMENT, asking).await else {
            self.is_slow.store(true, Ordering::Release);
            return None;
        };
        // The task fails only if it panics or the runtime shuts down.
        answer.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn origin() -> Arc<Responsiveness> {
        Arc::new(Responsiveness::new(Origin::nowhere()))
    }

    #[tokio::test(start_paused = true)]
    async fn late_response_is_not_awaited() {
        let (origin, runtime) = (origin(), Handle::current());
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            1
        };
        assert_eq!(Arc::clone(&origin).ask(&runtime, takes(PATIENCE / 2)).await, Some(1));
        assert_eq!(Arc::clone(&origin).ask(&runtime, takes(PATIENCE * 2)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_origin_gets_one_probe() {
        let (origin, runtime) = (origin(), Handle::current());
        assert_eq!(
            Arc::clone(&origin).ask(&runtime, std::future::pending::<()>()).await,
            None
        );
        let probed = Arc::clone(&origin);
        let (asked, heard) = oneshot::channel();
        let (answer, answered) = oneshot::channel::<()>();
        let probe = async move {
            asked.send(()).unwrap();
            answered.await.unwrap();
            probed.note(None);
        };
        let began = tokio::time::Instant::now();
        assert_eq!(Arc::clone(&origin).ask(&runtime, probe).await, None);
        heard.await.unwrap();
        let second = async { unreachable!("one probe is enough") };
        assert_eq!(Arc::clone(&origin).ask::<()>(&runtime, second).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        answer.send(()).unwrap();
        drop(origin.probing.lock().await);
        assert_eq!(Arc::clone(&origin).ask(&runtime, async { 2 }).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn cached_metadata_limits_the_wait() {
        let (origin, runtime) = (origin(), Handle::current());
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            1
        };
        assert_eq!(
            Arc::clone(&origin).ask_in_passing(&runtime, takes(MOMENT / 2)).await,
            Some(1)
        );
        let began = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(
                Arc::clone(&origin).ask_in_passing(&runtime, takes(MOMENT * 2)).await,
                None
            );
        }
        assert_eq!(began.elapsed(), MOMENT);
        assert_eq!(
            Arc::clone(&origin).ask(&runtime, takes(MOMENT * 2)).await,
            Some(1),
            "slow is not silent"
        );
        origin.note(None);
        assert_eq!(
            Arc::clone(&origin).ask_in_passing(&runtime, takes(MOMENT / 2)).await,
            Some(1)
        );
    }

    #[tokio::test]
    async fn denial_is_a_response_and_a_reset_is_not() {
        let origin = origin();
        origin.note(Some(&HttpErrorKind::TimedOut(PATIENCE)));
        origin.note(Some(&HttpErrorKind::Interrupted));
        assert!(origin.is_silent.load(Ordering::Acquire));
        origin.note(Some(&HttpErrorKind::Refused));
        assert!(!origin.is_silent.load(Ordering::Acquire));
    }
}
