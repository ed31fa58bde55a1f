//! When a node is late: the file's own server is asked for the same bytes too, and the first answer counts (a hedged request).
//!
//! A node that is down shows at once. One that is silent does not: a stopped process and a machine without power look like
//! a slow one. And many machines that read the same files can make a good node slow. If each of their requests were hedged
//! then, the origin would get them all. So:
//!
//! - **A sign of life decides.** A silent node is asked for its status page, which needs neither a file nor an origin. Without
//!   an answer it rests: all requests that wait for it are hedged at once, and others go elsewhere.
//! - **One at a time.** A request to a node that answers quickly as a rule is hedged after [`Node::patience`] without waiting for
//!   the sign. While that one is under way, no other is.
//! - **A node that is alive** answers other requests, or gives a sign. It may wait for the origin on behalf of several clients,
//!   so a request to it gets longer. But one of its processes may hang, so it gets [`LONGEST_WAIT`] at most.
//! - **In the middle of a body**, a silent node is asked for a sign of life too.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::node::Node;
use crate::util::events;

/// After this silence, a node that often takes longer is asked for a sign of life. Together with the wait for that, it is
/// what a reader waits for a machine that is gone.
pub(super) const SOON: Duration = Duration::from_millis(250);

/// Longest wait for a request to a node that is alive.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The same in patiences.
const MOST_PATIENCES: u32 = 4;

/// How long to wait for a sign of life: longer for a node that often takes long. All its processes may be busy.
const SHORTEST_SIGN: Duration = Duration::from_millis(300);
const LONGEST_SIGN: Duration = Duration::from_millis(600);

/// A sign that comes later than this is not waited for, not even in the background. The node is asked again.
const LATEST_SIGN: Duration = Duration::from_secs(5);

/// Asks a node for a sign of life, and returns true if it gives one.
pub(super) type AskForSign = Arc<dyn Fn() -> Sign + Send + Sync>;

/// Waits for a sign of life, for as long as for any response.
pub(super) type Sign = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A request to a node is late: the file's own server may be asked too. Held while both are asked.
pub struct Hedge {
    node: Arc<Node>,
    /// `None` if the node is not asked any more, or all patience is over.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Hedge {
    /// The file's own server is asked too.
    pub(crate) fn begin(&self) {
        self.node.counters.hedged();
    }

    /// Returns true if there is no point in waiting for the node: it has given no sign of life.
    pub(crate) fn is_for_good(&self) -> bool {
        self.node.is_resting()
    }
}

/// Returns when a request that is sent to this node now has to be hedged.
pub(super) async fn is_late(node: &Arc<Node>, ask: &AskForSign) -> Hedge {
    let patience = node.patience();
    let longest = LONGEST_WAIT.min(patience * MOST_PATIENCES);
    let turn = timeout(longest, silence(node, ask, patience)).await;
    Hedge {
        node: Arc::clone(node),
        _turn: turn.unwrap_or_default(),
    }
}

/// Returns when a node has been silent for too long, with the turn to hedge a request if it may be alive.
async fn silence(node: &Arc<Node>, ask: &AskForSign, patience: Duration) -> Option<OwnedSemaphorePermit> {
    let (mut from, time) = (Instant::now(), patience.min(SOON));
    loop {
        if !is_suspect(node, from, time).await {
            return None;
        }
        if patience <= SOON
            && let Some(turn) = node.turn()
        {
            let (node, ask) = (Arc::clone(node), Arc::clone(ask));
            tokio::spawn(async move { is_alive(&node, &ask).await });
            return Some(turn);
        }
        if !is_alive(node, ask).await {
            return None;
        }
        from = Instant::now();
    }
}

/// Returns when a node has given no sign of life that has been silent in the middle of a body for [`SOON`].
pub(super) async fn is_gone(node: &Arc<Node>, ask: &AskForSign) {
    let now = Instant::now();
    let mut from = now.checked_sub(SOON).unwrap_or(now);
    while is_suspect(node, from, SOON).await && is_alive(node, ask).await {
        from = Instant::now();
    }
}

/// Returns true when a node has been silent for this time, which begins at `from` or later; false if it rests.
async fn is_suspect(node: &Node, from: Instant, time: Duration) -> bool {
    // Before it is looked at, or a rest that begins between the two would be missed.
    let rest = node.next_rest();
    if node.is_resting() {
        return false;
    }
    tokio::select! {
        () = rest => false,
        () = node.silence(from, time) => true,
    }
}

/// Returns true if a node gives a sign of life in time. Otherwise it rests. One caller asks, and the others wait for the result.
async fn is_alive(node: &Arc<Node>, ask: &AskForSign) -> bool {
    let from = Instant::now();
    let _one = node.asking.lock().await;
    if node.has_answered_since(from) {
        return true;
    }
    if node.is_resting() {
        return false;
    }
    let mut sign = ask();
    match timeout(node.patience().clamp(SHORTEST_SIGN, LONGEST_SIGN), &mut sign).await {
        Ok(true) => {
            node.gave_a_sign();
            return true;
        }
        Ok(false) => {}
        // A late sign ends the rest.
        Err(_) => note_sign(node, sign),
    }
    // It may have answered a request meanwhile.
    let is_alive = node.has_answered_since(from);
    if !is_alive && node.rests() {
        let name = node.name();
        log::info!(event = events::TIER_RESTS; "{name}: it does not answer; other places are asked until it does");
    }
    is_alive
}

/// Asks a node that has rested for a sign of life, in the background. Without one it rests on, and no reader has waited.
pub(super) fn wake(node: &Arc<Node>, ask: &AskForSign) {
    note_sign(node, ask());
}

/// Notes a sign when it comes.
fn note_sign(node: &Arc<Node>, sign: Sign) {
    let node = Arc::clone(node);
    tokio::spawn(async move {
        if timeout(LATEST_SIGN, sign).await == Ok(true) {
            node.gave_a_sign();
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::time::{advance, sleep};
    use url::Url;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A node that has answered often, always after this time.
    fn node(latency: Duration) -> Arc<Node> {
        let node = Node::new(&Url::parse("http://tier/").unwrap());
        (0..20).for_each(|_| node.answered(Instant::now().checked_sub(latency).unwrap(), true));
        Arc::new(node)
    }

    /// A sign of life that comes after this time, and how often it was asked for.
    fn sign(after: Duration) -> (AskForSign, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let ask: AskForSign = Arc::new(move || {
            count.fetch_add(1, Relaxed);
            Box::pin(async move {
                sleep(after).await;
                true
            })
        });
        (ask, asked)
    }

    /// Starts requests to a node in the same moment; returns the times in ms after which each is late.
    async fn late(node: &Arc<Node>, ask: &AskForSign, requests: usize) -> Vec<u128> {
        let begun = Instant::now();
        let request = || {
            let (node, ask) = (Arc::clone(node), Arc::clone(ask));
            async move {
                let hedge = is_late(&node, &ask).await;
                let after = begun.elapsed().as_millis();
                // The origin takes a while to answer.
                sleep(30 * MS).await;
                drop(hedge);
                after
            }
        };
        let running: Vec<_> = (0..requests).map(|_| tokio::spawn(request())).collect();
        let mut times = Vec::new();
        for request in running {
            times.push(request.await.unwrap());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn dead_node_holds_no_request_for_longer_than_silence_and_sign() {
        advance(1000 * MS).await;
        // Quick as a rule: the first is hedged at once, the others when the node rests.
        let (ask, asked) = sign(5000 * MS);
        let quick = node(2 * MS);
        assert_eq!(late(&quick, &ask, 3).await, [250, 550, 550]);
        assert!(quick.is_resting());
        advance(5000 * MS).await;
        sleep(MS).await;
        assert!(!quick.is_resting(), "a late sign");
        assert_eq!(asked.load(Relaxed), 1);
        // Slow as a rule, and unknown.
        for node in [
            node(700 * MS),
            Arc::new(Node::new(&Url::parse("http://tier/").unwrap())),
        ] {
            let (ask, asked) = sign(5000 * MS);
            assert_eq!(late(&node, &ask, 3).await, [850, 850, 850]);
            assert_eq!(asked.load(Relaxed), 1);
            assert_eq!(late(&node, &ask, 1).await, [0], "it rests");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_to_a_busy_node_are_hedged_one_at_a_time() {
        advance(1000 * MS).await;
        let (ask, _) = sign(200 * MS);
        let quick = node(2 * MS);
        // The second has its turn after a sign and a silence of 250 ms; the others at the end of all patience.
        assert_eq!(late(&quick, &ask, 4).await, [250, 700, 1000, 1000]);
        assert!(!quick.is_resting());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_in_a_body_is_no_end_of_a_node_that_is_alive() {
        advance(1000 * MS).await;
        let (node, begun) = (node(2 * MS), Instant::now());
        let (ask, asked) = sign(200 * MS);
        assert!(timeout(2000 * MS, is_gone(&node, &ask)).await.is_err());
        assert!(asked.load(Relaxed) > 1);
        // The last sign came at 1.8 s.
        let (ask, _) = sign(5000 * MS);
        is_gone(&node, &ask).await;
        assert_eq!(begun.elapsed(), 2350 * MS);
        is_gone(&node, &ask).await;
        assert_eq!(begun.elapsed(), 2350 * MS, "it rests");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_node_that_is_alive_gets_longer() {
        advance(1000 * MS).await;
        let (ask, asked) = sign(200 * MS);
        assert_eq!(late(&node(300 * MS), &ask, 1).await, [3600]);
        assert!(asked.load(Relaxed) > 3);
        // One that answers other requests is not asked for a sign.
        let (ask, asked) = sign(5000 * MS);
        let busy = node(300 * MS);
        let answers = {
            let busy = Arc::clone(&busy);
            async move {
                loop {
                    sleep(100 * MS).await;
                    busy.answered(Instant::now(), true);
                }
            }
        };
        let answering = tokio::spawn(answers);
        let hedge = timeout(1000 * MS, is_late(&busy, &ask)).await;
        answering.abort();
        assert!(hedge.is_err());
        assert_eq!(asked.load(Relaxed), 0);
    }
}
