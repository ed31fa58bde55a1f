//! The tier that several machines share: nodes of nginx in front of the origins, with the configuration that
//! `fetchfs tier config` prints.
//!
//! - **It is asked first**, for the bytes of files. Names, sizes and dates are asked of the origin, and what the tier says
//!   of a version counts only where the origin has said nothing yet, as the first answer for a file does.
//! - **Which node.** The nodes of a group share the files by extents of 64 MiB ([`rendezvous`]). The others of the group
//!   follow, then the next group, then the origin.
//! - **Names.** A member of a group may be a DNS name. It is looked up ([`lookup`]) when the mount begins, and when a fetch
//!   asks for nodes after the time of the records ([`schedule`]). No fetch waits for that: it gets the nodes that are known.
//! - **Versions.** The request names the version, and the node keeps each version's slices apart
//!   ([`condition`]). Its response is validated like a mirror's.
//! - **Failures.** A node that refuses connections is paused like any server ([`Health`](super::Health)). Requests to a silent
//!   one are sent to the origin too, and it rests if it gives no sign of life ([`hedge`]). One that answers as no tier does is
//!   left out for minutes. None of this is attributed to the file or its origin.
//! - **Privacy.** A file whose requests carry a login, a header, a cookie or a client certificate is not asked for here,
//!   unless the user wants nodes to pass these on ([`private`]).

mod finding;
mod hedge;
mod latency;
mod lookup;
mod node;
mod nodes;
mod private;
mod rendezvous;
mod schedule;

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_UNMODIFIED_SINCE};
use tokio::{runtime::Handle, time::Instant};
use url::Url;

pub(crate) use self::hedge::Hedge;
pub(super) use self::nodes::TierNodes;
use self::{finding::Finding, hedge::AskForSign, node::Node, nodes::Lacking};
use super::{
    Client, Content,
    limits::request_class::RequestClass,
    mirror_tier::{judge_expected, no_answer},
    request::{body::WaitUntilGone, transport::HttpRequest},
    tier::{ChunkTier, Expected, SLICE, TierAnswer, TierRange},
};
use crate::{
    http::{HttpError, HttpErrorKind, Validator, Version, redact, response::validation::Verdict, tag::untagged},
    util::events,
};

pub(super) use private::warn;

/// Bytes of a file that have the same order of nodes. Large enough that a reader in sequence stays with one node for a
/// while, and small enough that a single large file is shared by all.
const EXTENT: u64 = 64 << 20;

/// Most slices of one request: nginx fetches those of one response one after another, so longer requests would only wait
/// longer for the origin.
const MOST_SLICES: u64 = 4;

/// Shortest time without data in a body after which a node is given up in the middle of it. Between two slices, a node
/// may have to fetch the next one, or wait up to 500 ms longer than another client's request for it. So after its
/// patience, the rest is requested anew of the same node, and only a second silence at this place counts.
const SHORTEST_STALL: Duration = Duration::from_secs(1);

/// A node that sends fewer bytes than these in such a time is of no use to a reader. A slow origin sends more.
const LEAST: u64 = 8 << 10;

/// The tier of a client's configuration.
#[derive(Debug)]
pub(crate) struct SharedTier {
    client: Client,
    /// Where names are looked up.
    runtime: Handle,
}

impl SharedTier {
    /// The tier of this client's configuration; `None` if it has none.
    pub(crate) fn new(client: Client, runtime: &Handle) -> Option<SharedTier> {
        let runtime = runtime.clone();
        let tier = client
            .tier()
            .is_configured()
            .then_some(SharedTier { client, runtime })?;
        tier.look_up();
        Some(tier)
    }

    fn nodes(&self) -> &TierNodes {
        self.client.tier()
    }

    /// Looks up the names that are due, in the background.
    fn look_up(&self) {
        if !self.client.is_offline() {
            self.client.tier().look_up(&self.runtime);
        }
    }

    /// The request of a range, or why there is no answer to it that counts.
    async fn request(
        &self,
        node: &Arc<Node>,
        there: &Url,
        want: Range<u64>,
        expected: Expected<'_>,
    ) -> Result<TierRange, HttpError> {
        let version = expected.version();
        let want = cut(want, version);
        // Before the hash of credentials is computed: a race may end this future meanwhile.
        node.counters.asked();
        let credentials = self.credentials(node, there, version).await?;
        let mut request = HttpRequest::range(&want);
        request.is_bare = true;
        request.headers.extend(credentials.clone().unwrap_or_default());
        if let Some((name, value)) = version.and_then(condition) {
            request.headers.insert(name, value);
        }
        let asked = Instant::now();
        let transport = self.client.transport();
        let answer = transport.send_once(RequestClass::Bytes, &request, there).await;
        let answer = answer.inspect_err(|error| {
            node.counters.failed();
            // A refusal to connect pauses it like any server.
            let is_here = matches!(error.kind, HttpErrorKind::NoDescriptors | HttpErrorKind::Offline);
            if !error.kind.is_of_the_origin() && !is_here && node.failed("a response broke off") {
                rests(node, "a response broke off");
            }
        })?;
        let status = answer.response.headers().get("x-cache-status").cloned();
        let is_private = credentials.map(|_| answer.response.headers().contains_key(private::MARK));
        let judged = match is_private {
            // It may be what its server gives to anyone.
            Some(false) => Err(Verdict::Failed(HttpErrorKind::BadAnswer(
                Finding::NotPrivate.text().to_owned(),
            ))),
            _ => judge_expected(&answer.head, want.clone(), expected),
        };
        let verdict = match judged {
            Ok((version, range)) => {
                node.answered(asked, true);
                node.counters
                    .served(status.as_ref().and_then(|status| status.to_str().ok()));
                let patience = node.patience();
                let stall = patience.max(SHORTEST_STALL);
                let (watched, ask) = (Arc::clone(node), sign_of_life(&self.client, node));
                let is_gone: WaitUntilGone = Arc::new(move || {
                    let (node, ask) = (Arc::clone(&watched), Arc::clone(&ask));
                    Box::pin(async move { hedge::is_gone(&node, &ask).await })
                });
                let modified = answer.head.modified();
                return Ok(TierRange {
                    version,
                    modified,
                    body: transport
                        .body_within(answer, range.end - range.start, stall)
                        .that_gives_way()
                        .that_is_expected_soon(patience, LEAST)
                        .that_is_watched_after(hedge::SOON, is_gone),
                });
            }
            Err(verdict) => verdict,
        };
        node.answered(asked, false);
        node.counters.failed();
        let finding = Finding::of(answer.head.status, status.is_some(), is_private);
        // Of a file with hashes of its pieces, a request may begin before the bytes that are wanted.
        let slice = (!matches!(expected, Expected::Hashed(_))).then_some(want.start / SLICE);
        self.note(node, there, slice, version, finding);
        let kind = match (finding, no_answer(verdict)) {
            (Finding::OfTheOrigin, kind @ HttpErrorKind::BadAnswer(_)) => kind,
            // An error of the tier is none of the file's server.
            _ => HttpErrorKind::BadAnswer(finding.text().to_owned()),
        };
        Err(answer.failed(kind).await)
    }

    /// The headers with the credentials for the file at this address, if requests for it carry any.
    async fn credentials(
        &self,
        node: &Node,
        there: &Url,
        version: Option<&Version>,
    ) -> Result<Option<HeaderMap>, HttpError> {
        let file = node
            .file(there)
            .filter(|file| self.nodes().is_private() && self.client.sends_secrets_to(file));
        let Some(file) = file else { return Ok(None) };
        if let Some(headers) = self.client.passed_on(&file).await {
            return Ok(Some(headers));
        }
        // The direct request says why.
        self.note(node, there, None, version, Finding::Refused);
        Err(HttpError {
            kind: HttpErrorKind::BadAnswer("there are no credentials that a node could pass on".to_owned()),
            url: redact(there),
        })
    }

    /// Notes what a response that does not count says of the node.
    fn note(&self, node: &Node, there: &Url, slice: Option<u64>, version: Option<&Version>, finding: Finding) {
        let why = finding.text();
        let mut lacking = Lacking {
            address: there.clone(),
            validator: version.map(|version| version.validator.clone()),
            slice: None,
        };
        match finding {
            Finding::NotAllowed | Finding::NotPrivate => {
                (lacking.address, lacking.validator) = (server_in(there), None);
                if !self.nodes().lacks(&lacking) {
                    log::warn!(event = events::TIER_LEFT_OUT; "{}: {why}", redact(&lacking.address));
                }
            }
            Finding::OriginUnreachable => lacking.slice = slice,
            Finding::Fails if node.failed(why) => rests(node, why),
            Finding::Wrong if node.was_wrong() => {
                log::warn!(event = events::TIER_LEFT_OUT; "{}: {why}; it is left out for 5 minutes", node.name());
            }
            Finding::OfTheOrigin | Finding::Refused | Finding::Fails | Finding::Wrong => {}
        }
        let is_of_all = matches!(
            finding,
            Finding::OriginUnreachable | Finding::OfTheOrigin | Finding::Refused
        );
        let groups = self.nodes().groups();
        let others = groups.iter().flatten().map(|member| &member.node);
        let others = others.filter(|other| is_of_all && other.name() != node.name());
        for address in others.filter_map(|other| other.counterpart(node, there)) {
            let lacking = Lacking {
                address,
                ..lacking.clone()
            };
            self.nodes().note_lacking(lacking, finding.time());
        }
        self.nodes().note_lacking(lacking, finding.time());
    }
}

/// What asks this node for a sign of life.
fn sign_of_life(client: &Client, node: &Node) -> AskForSign {
    let (client, status) = (client.clone(), node.status());
    Arc::new(move || {
        let (client, status) = (client.clone(), status.clone());
        Box::pin(async move {
            // nginx answers this by itself. What another engine answers does not matter.
            let mut request = HttpRequest::head();
            request.is_bare = true;
            let answer = client
                .transport()
                .send_once(RequestClass::Names, &request, &status)
                .await;
            answer.is_ok()
        })
    })
}

/// A node is not used for a moment.
fn rests(node: &Node, why: &str) {
    log::info!(event = events::TIER_RESTS; "{}: {why}; other places are asked for 10 seconds", node.name());
}

impl ChunkTier for SharedTier {
    fn is_asked_first(&self) -> bool {
        true
    }

    fn slice(&self) -> Option<u64> {
        Some(SLICE)
    }

    fn candidates(&self, content: &Content, bytes: &Range<u64>, version: Option<&Version>) -> Vec<Url> {
        let file = untagged(content.url());
        let is_nameable = version.is_none_or(|version| content.is_hashed() || condition(version).is_some());
        if !matches!(file.scheme(), "http" | "https") || !is_nameable {
            return Vec::new();
        }
        let can_pass_on = || self.nodes().is_private() && self.client.can_pass_on(&file);
        if self.client.sends_secrets_to(&file) && !can_pass_on() {
            return Vec::new();
        }
        let validator = version.map(|version| &version.validator);
        let lacking = |address: &Url, validator: Option<&Validator>, slice| Lacking {
            address: address.clone(),
            validator: validator.cloned(),
            slice,
        };
        let is_there = |address: &Url| {
            let nodes = self.nodes();
            !nodes.lacks(&lacking(&server_in(address), None, None))
                && !nodes.lacks(&lacking(address, validator, None))
                && !nodes.lacks(&lacking(address, validator, Some(bytes.start / SLICE)))
                // Its bytes contradicted a published hash.
                && !self.client.is_left_out(address)
        };
        self.look_up();
        let nodes = self.nodes().in_order(&file, bytes.start / EXTENT);
        for node in nodes.iter().filter(|node| node.is_due()) {
            hedge::wake(node, &sign_of_life(&self.client, node));
        }
        let used = nodes.into_iter().filter(|node| node.unused().is_none());
        used.filter_map(|node| node.address(&file)).filter(is_there).collect()
    }

    fn range<'a>(&'a self, there: &'a Url, want: Range<u64>, expected: Expected<'a>) -> TierAnswer<'a> {
        Box::pin(async move {
            match self.nodes().of(there) {
                Some(node) => self.request(&node, there, want, expected).await,
                None => Err(HttpError {
                    kind: HttpErrorKind::BadAnswer("no node of the tier".to_owned()),
                    url: redact(there),
                }),
            }
        })
    }

    fn is_late<'a>(&'a self, there: &'a Url) -> Pin<Box<dyn Future<Output = Hedge> + Send + 'a>> {
        Box::pin(async move {
            let Some(node) = self.nodes().of(there) else {
                return std::future::pending().await;
            };
            hedge::is_late(&node, &sign_of_life(&self.client, &node)).await
        })
    }

    fn broke_off(&self, there: &Url) {
        if let Some(node) = self.nodes().of(there) {
            node.counters.failed();
            if node.failed("a response broke off") {
                rests(&node, "a response broke off");
            }
        }
    }
}

/// The header that names a version; `None` for one that no header can name exactly.
fn condition(version: &Version) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = match &version.validator {
        Validator::Strong(tag) => (IF_MATCH, tag),
        Validator::Dated(date) => (IF_UNMODIFIED_SINCE, date),
        Validator::Weak(_) | Validator::None => return None,
    };
    Some((name, HeaderValue::from_str(value).ok()?))
}

/// The beginning of a range: up to the end of a slice, within an extent.
///
/// nginx compares the tags of the slices in one response, and the head is that of the first. So without a strong tag, a
/// response may have one slice only, or a second one could be of another version.
fn cut(want: Range<u64>, version: Option<&Version>) -> Range<u64> {
    let is_strong = version.is_some_and(|version| matches!(version.validator, Validator::Strong(_)));
    let slices = if is_strong { MOST_SLICES } else { 1 };
    let end = (want.start / SLICE + slices) * SLICE;
    let extent = (want.start / EXTENT + 1) * EXTENT;
    want.start..want.end.min(end).min(extent)
}

/// The address of the root of a file's server in a node.
fn server_in(address: &Url) -> Url {
    let mut server = address.clone();
    server.set_query(None);
    let mut parts = address.path().split('/');
    // The node's own URL has no path.
    let (scheme, host) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or_default());
    server.set_path(&format!("/{scheme}/{host}/"));
    server
}

impl Client {
    /// Returns true if requests for this URL carry something that is meant for its server alone: a login, a header, a
    /// cookie, a signature or a client certificate.
    pub(super) fn sends_secrets_to(&self, url: &Url) -> bool {
        let (transport, site) = (self.transport(), self.transport().site(url));
        site.access.logs_in_at(url)
            || site.access.has_headers_at(url)
            || site.config.tls.client_cert.is_some()
            || site.cookies.header(url, SystemTime::now()).is_some()
            || transport.signers.signs(url)
            || transport.file_headers.has(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_on_edges() {
        const MIB: u64 = 1 << 20;
        let of = |validator| Version {
            size: 1 << 40,
            validator,
        };
        let (strong, dated) = (of(Validator::Strong("\"a\"".into())), of(Validator::Dated("x".into())));
        for (want, strong_end, dated_end) in [
            (0..100 * MIB, 4 * MIB, MIB),
            (MIB / 2..100 * MIB, 4 * MIB, MIB),
            (MIB / 2..MIB, MIB, MIB),
            (5..9, 9, 9),
            (63 * MIB..100 * MIB, 64 * MIB, 64 * MIB),
            (64 * MIB..100 * MIB, 68 * MIB, 65 * MIB),
        ] {
            assert_eq!(cut(want.clone(), Some(&strong)), want.start..strong_end, "{want:?}");
            assert_eq!(cut(want.clone(), Some(&dated)), want.start..dated_end, "{want:?}");
            assert_eq!(cut(want.clone(), None), want.start..dated_end, "{want:?}");
        }
    }

    #[test]
    fn server_of_an_address_is_its_first_two_parts() {
        let url = |text| Url::parse(text).unwrap();
        assert_eq!(
            server_in(&url("http://t:1/https/h:2/a/b?c")),
            url("http://t:1/https/h:2/")
        );
    }
}
