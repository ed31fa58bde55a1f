//! One node of a tier: where it is, how it answers, and whether it is used now.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use url::{Position, Url};

use super::latency::Latency;
use crate::stats::TierCounters;

/// How long a node is not used after it fell silent or broke off a response. Meanwhile the others have its extents.
const REST: Duration = Duration::from_secs(10);

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
    /// An answer ends it. A node whose responses break off, or that has no space left, goes on to answer.
    is_until_answer: bool,
}

impl Node {
    pub(super) fn new(url: &Url) -> Node {
        Node {
            url: url.clone(),
            base: url.as_str().trim_end_matches('/').to_owned(),
            counters: TierCounters::default(),
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
        (Instant::now() < unused.until).then_some(unused.why)
    }

    /// How long to wait for its answer before another place is asked too.
    pub(super) fn patience(&self) -> Duration {
        self.state.lock().latency.patience()
    }

    /// Returns true if it has answered nothing for this time.
    pub(super) fn is_silent(&self, time: Duration) -> bool {
        let last = self.state.lock().last_answer;
        last.is_none_or(|answer| answer.elapsed() >= time)
    }

    /// It has answered, though not a request for bytes.
    pub(super) fn is_alive(&self) {
        self.state.lock().last_answer = Some(Instant::now());
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
            state.unused.take_if(|unused| unused.is_until_answer);
        }
    }

    /// It did not answer a request of this moment in time, and the file's own server did. It rests, unless it has answered
    /// others meanwhile: then the file may be slow.
    pub(super) fn was_late(&self, asked: Instant) -> bool {
        let mut state = self.state.lock();
        let is_silent = state.last_answer.is_none_or(|answer| answer < asked);
        is_silent && state.is_unused(REST, "it does not answer", true)
    }

    /// It broke a response off, or failed. Returns true if it was in use.
    pub(super) fn failed(&self, why: &'static str) -> bool {
        self.state.lock().is_unused(REST, why, false)
    }

    /// It has answered as no tier does. Returns true if it is left out from now on.
    pub(super) fn was_wrong(&self) -> bool {
        let mut state = self.state.lock();
        state.wrong += 1;
        state.wrong >= MOST_WRONG && state.is_unused(LEFT_OUT, "it does not answer as a tier does", true)
    }
}

impl State {
    /// Returns true if it was in use.
    fn is_unused(&mut self, time: Duration, why: &'static str, is_until_answer: bool) -> bool {
        let now = Instant::now();
        let was_used = self.unused.as_ref().is_none_or(|unused| unused.until <= now);
        self.unused = Some(Unused {
            until: now + time,
            why,
            is_until_answer,
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
        assert!(node.was_late(Instant::now()));
        node.answered(Instant::now(), true);
        assert!(node.unused().is_none());
        assert!(node.failed("a response broke off"));
        node.answered(Instant::now(), true);
        assert!(node.unused().is_some(), "its heads are good, and its bodies are not");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_node_rests_and_wrong_one_is_left_out() {
        let node = Node::new(&url("http://a"));
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        node.answered(asked, true);
        assert!(!node.was_late(asked), "it answered others");
        assert!(node.unused().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(node.was_late(Instant::now()));
        assert!(!node.was_late(Instant::now()), "said once");
        assert!(node.unused().is_some());
        tokio::time::advance(REST).await;
        assert!(node.unused().is_none());
        assert_eq!([(); 3].map(|()| node.was_wrong()), [false, false, true]);
        tokio::time::advance(REST).await;
        assert!(node.unused().is_some());
        tokio::time::advance(LEFT_OUT).await;
        assert!(node.unused().is_none());
    }
}
