//! One node of a tier: where it is, how it answers, and whether it is used now.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified},
    time::{Instant, sleep_until},
};
use url::{Position, Url};

use super::latency::Latency;
use crate::stats::TierCounters;

/// How long a node is not used after it broke off a response. Meanwhile the others have its extents.
const REST: Duration = Duration::from_secs(10);

/// How long a silent node is not asked for a sign of life, after one that did not come.
const UNTIL_NEXT_SIGN: Duration = Duration::from_secs(2);

/// How long a node is not used that answers as no tier does.
const LEFT_OUT: Duration = Duration::from_secs(300);

/// Wrong responses in a row after which a node is left out. One may be of a single file.
const MOST_WRONG: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) url: Url,
    /// Its URL, without a `/` at the end.
    base: String,
    pub(super) counters: TierCounters,
    /// Held while it is asked for a sign of life.
    pub(super) asking: tokio::sync::Mutex<()>,
    /// Held while a request to it is hedged for its silence.
    hedging: Arc<Semaphore>,
    /// It begins to rest.
    begins_to_rest: Notify,
    /// **No other lock is taken under it.**
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    latency: Latency,
    /// Wrong responses since the last good one.
    wrong: u32,
    unused: Option<Unused>,
    last_answer: Option<Instant>,
}

/// A time in which a node is not used.
#[derive(Debug)]
struct Unused {
    until: Instant,
    why: &'static str,
    end: EndOfUnused,
}

/// What ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndOfUnused {
    /// Time alone. A node whose responses break off, or that has no space left, goes on to answer.
    Time,
    /// Time, or a good answer.
    Answer,
    /// A sign of life, which is asked for when the time is over, or a good answer.
    Sign,
}

impl Node {
    pub(super) fn new(url: &Url) -> Node {
        Node {
            url: url.clone(),
            base: url.as_str().trim_end_matches('/').to_owned(),
            counters: TierCounters::default(),
            asking: tokio::sync::Mutex::default(),
            hedging: Arc::new(Semaphore::new(1)),
            begins_to_rest: Notify::new(),
            state: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.base
    }

    /// Where it says how busy it is.
    pub(super) fn status(&self) -> Url {
        let mut status = self.url.clone();
        status.set_path("/status");
        status
    }

    /// Where it has a file; `None` for what no tier has.
    pub(super) fn address(&self, file: &Url) -> Option<Url> {
        let (scheme, host) = (file.scheme(), file.host_str()?);
        let port = file.port().map(|port| format!(":{port}")).unwrap_or_default();
        let rest = &file[Position::BeforePath..Position::AfterQuery];
        Url::parse(&format!("{}/{scheme}/{host}{port}{rest}", self.base)).ok()
    }

    /// The file that it has at this address, by its own URL.
    pub(super) fn file(&self, address: &Url) -> Option<Url> {
        let rest = address.as_str().strip_prefix(self.base.as_str())?;
        let (scheme, rest) = rest.strip_prefix('/')?.split_once('/')?;
        Url::parse(&format!("{scheme}://{rest}")).ok()
    }

    /// Returns true if this is the address of a file in it.
    pub(super) fn has(&self, address: &Url) -> bool {
        let rest = address.as_str().strip_prefix(self.base.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// Where it has what another node has at this address.
    pub(super) fn counterpart(&self, other: &Node, address: &Url) -> Option<Url> {
        let rest = address.as_str().strip_prefix(other.base.as_str())?;
        Url::parse(&format!("{}{rest}", self.base)).ok()
    }

    /// Why it is not used now.
    pub(super) fn unused(&self) -> Option<&'static str> {
        let state = self.state.lock();
        let unused = state.unused.as_ref()?;
        let is_over = unused.end != EndOfUnused::Sign && unused.until <= Instant::now();
        (!is_over).then_some(unused.why)
    }

    /// Returns true if it has to be asked for a sign of life now, after its rest. Other callers get false for a while.
    pub(super) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        let unused = state.unused.as_mut();
        let due = unused.filter(|unused| unused.end == EndOfUnused::Sign && unused.until <= now);
        due.map(|unused| unused.until = now + UNTIL_NEXT_SIGN).is_some()
    }

    /// Returns true if it is not used because it gave no sign of life.
    pub(super) fn is_resting(&self) -> bool {
        let state = self.state.lock();
        state
            .unused
            .as_ref()
            .is_some_and(|unused| unused.end == EndOfUnused::Sign)
    }

    /// Waits until it begins to rest, from now on.
    pub(super) fn next_rest(&self) -> Notified<'_> {
        self.begins_to_rest.notified()
    }

    /// The right to hedge a request to it; `None` while another is hedged.
    pub(super) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.hedging).try_acquire_owned().ok()
    }

    /// How long to wait for its answer before another place is asked too.
    pub(super) fn patience(&self) -> Duration {
        self.state.lock().latency.patience()
    }

    /// Returns when it has answered nothing for this time, which begins at `from` or later.
    pub(super) async fn silence(&self, mut from: Instant, time: Duration) {
        loop {
            if let Some(answer) = self.last_answer() {
                from = from.max(answer);
            }
            sleep_until(from + time).await;
            if !self.has_answered_since(from) {
                return;
            }
        }
    }

    fn last_answer(&self) -> Option<Instant> {
        self.state.lock().last_answer
    }

    /// Returns true if it has answered something after this moment.
    pub(super) fn has_answered_since(&self, moment: Instant) -> bool {
        self.last_answer().is_some_and(|answer| answer > moment)
    }

    /// It has answered, though not a request for bytes.
    pub(super) fn gave_a_sign(&self) {
        let mut state = self.state.lock();
        state.last_answer = Some(Instant::now());
        state.unused.take_if(|unused| unused.end == EndOfUnused::Sign);
    }

    /// The 99th percentile of its answers.
    pub(super) fn p99(&self) -> Option<Duration> {
        self.state.lock().latency.p99()
    }

    /// It has answered a request of this moment, with what was asked for or with something else.
    pub(super) fn answered(&self, asked: Instant, is_good: bool) {
        let mut state = self.state.lock();
        state.latency.note(asked.elapsed());
        state.last_answer = Some(Instant::now());
        if is_good {
            state.wrong = 0;
            state.unused.take_if(|unused| unused.end != EndOfUnused::Time);
        }
    }

    /// It gave no sign of life. Returns true if it was in use.
    pub(super) fn rests(&self) -> bool {
        let was_used = self
            .state
            .lock()
            .is_unused(UNTIL_NEXT_SIGN, "it does not answer", EndOfUnused::Sign);
        self.begins_to_rest.notify_waiters();
        was_used
    }

    /// It broke a response off, or failed. Returns true if it was in use. One that rests needs a sign of life all the same.
    pub(super) fn failed(&self, why: &'static str) -> bool {
        !self.is_resting() && self.state.lock().is_unused(REST, why, EndOfUnused::Time)
    }

    /// It has answered as no tier does. Returns true if it is left out from now on.
    pub(super) fn was_wrong(&self) -> bool {
        let mut state = self.state.lock();
        state.wrong += 1;
        state.wrong >= MOST_WRONG && state.is_unused(LEFT_OUT, "it does not answer as a tier does", EndOfUnused::Answer)
    }
}

impl State {
    /// Returns true if it was in use.
    fn is_unused(&mut self, time: Duration, why: &'static str, end: EndOfUnused) -> bool {
        let now = Instant::now();
        let was_used = self.unused.as_ref().is_none_or(|unused| unused.until <= now);
        self.unused = Some(Unused {
            until: now + time,
            why,
            end,
        });
        was_used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn address_is_the_whole_url_of_the_file() {
        let node = Node::new(&url("http://tier:8080/"));
        for (file, address) in [
            ("https://h/a%20b/c?d=e", "http://tier:8080/https/h/a%20b/c?d=e"),
            ("http://h:81/", "http://tier:8080/http/h:81/"),
            ("https://h:443//x%2Fy", "http://tier:8080/https/h//x%2Fy"),
            ("http://[::1]:9/x#y", "http://tier:8080/http/[::1]:9/x"),
            ("http://ann:secret@h/x", "http://tier:8080/http/h/x"),
        ] {
            let there = node.address(&url(file)).unwrap();
            assert_eq!(there.as_str(), address);
            assert!(node.has(&there));
            assert_eq!(node.address(&node.file(&there).unwrap()), Some(there));
        }
        assert!(!node.has(&url("http://tier:8081/https/h/x")));
    }

    #[tokio::test(start_paused = true)]
    async fn answer_ends_the_rest_of_a_silent_node_only() {
        let node = Node::new(&url("http://a"));
        assert!(node.rests());
        node.answered(Instant::now(), true);
        assert!(node.unused().is_none());
        assert!(node.failed("a response broke off"));
        node.answered(Instant::now(), true);
        node.gave_a_sign();
        assert!(node.unused().is_some(), "its heads are good, and its bodies are not");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_node_rests_until_it_gives_a_sign() {
        let node = Node::new(&url("http://a"));
        assert!(node.rests());
        assert!(!node.rests(), "said once");
        assert!(node.unused().is_some() && node.is_resting() && !node.is_due());
        assert!(!node.failed("a response broke off") && node.is_resting());
        tokio::time::advance(UNTIL_NEXT_SIGN).await;
        assert!(node.unused().is_some());
        assert!(node.is_due());
        assert!(!node.is_due(), "it is asked once");
        assert!(!node.rests(), "it gave none");
        tokio::time::advance(UNTIL_NEXT_SIGN).await;
        assert!(node.unused().is_some() && node.is_due());
        node.gave_a_sign();
        assert!(node.unused().is_none() && !node.is_resting() && !node.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_is_no_tier_is_left_out_for_a_while() {
        let node = Node::new(&url("http://a"));
        assert_eq!([(); 3].map(|()| node.was_wrong()), [false, false, true]);
        tokio::time::advance(REST).await;
        assert!(node.unused().is_some() && !node.is_resting());
        tokio::time::advance(LEFT_OUT).await;
        assert!(node.unused().is_none());
    }
}
