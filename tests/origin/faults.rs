//! Faults: which requests get a dishonest response, how, and how often.
//!
//! A fault changes the honest response. Several faults may change one response, in the order in which they were
//! switched on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::content::Content;
use super::delivery::{Answer, Cut, Framing, Part, Piece};
use super::gate::Gate;
use super::request::Request;

/// A misbehaviour of the server.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Delay the first byte of the response.
    Latency(Duration),
    /// Send the body at this many bytes per second.
    Rate(u64),
    /// Answer 503 to requests above the crowd's limit.
    Crowd(Crowd),
    /// Hold the response until the gate opens.
    Hold(Gate),
    /// Send this many body bytes, then wait until the gate opens.
    HoldAfter(u64, Gate),
    /// Reset the connection after this many body bytes.
    ResetAfter(u64),
    /// Close the connection in order after this many body bytes.
    CloseAfter(u64),
    /// Send this many bytes after the end of the body.
    Excess(u64),
    /// Answer with this status and a page for people.
    Status(u16),
    /// Answer 401 to requests that lack this header: its name, and its value.
    Demand(&'static str, String),
    /// Send this content of the same size, under the same version, to requests with this header: its name, and its value.
    ContentFor(&'static str, &'static str, Content),
    /// Answer 503 with a Retry-After in seconds.
    RetryAfter(u64),
    /// Answer 503 with a Retry-After as a date, this many seconds from now.
    RetryAtDate(u64),
    /// Close the connection instead of responding, as a relay without its server does.
    NoAnswer,
    /// Answer `HEAD` with this status.
    RefuseHead(u16),
    /// Send the whole file with 200 and ignore any range.
    IgnoreRange(Framing),
    /// Send this content in place of the file, without length, version or date, and ignore any range: a page that is
    /// generated while it is sent.
    MadeWhileSent(Content),
    /// Send a range that begins this many bytes after the requested one, with a matching Content-Range.
    ShiftedRange(u64),
    /// Send at most this many bytes of the requested range, with a matching Content-Range: allowed, and rare.
    ShorterRange(u64),
    /// Send the requested range with a wrong total size.
    WrongTotal(u64),
    /// Send this Content-Range, or none.
    ContentRange(Option<&'static str>),
    /// Mark the end of the body in this way.
    Framed(Framing),
    /// Add this header: its name, and its value.
    Header(&'static str, &'static str),
    /// Give each response its own strong ETag: the number of responses before.
    AnotherTag(Arc<AtomicUsize>),
    /// Send something that is not HTTP, and close the connection.
    Garbage,
    /// Send the range wrapped in `multipart/byteranges`.
    Multipart,
    /// Label the body as gzip, although it is not compressed.
    ClaimGzip,
    /// Answer 200 with a login page, as a captive portal does.
    LoginPage,
    /// Redirect with this status to this URL.
    Redirect(u16, String),
    /// Redirect to a new URL each time: this URL and the number of earlier redirects.
    SignedLink(String, Arc<AtomicUsize>),
}

/// A limit on concurrent requests.
#[derive(Debug, Clone)]
pub struct Crowd {
    most: usize,
    inside: Arc<AtomicUsize>,
}

impl Crowd {
    /// A crowd of at most this many requests.
    pub fn of(most: usize) -> Crowd {
        Crowd {
            most,
            inside: Arc::default(),
        }
    }

    fn enter(&self) -> Option<Place> {
        let has_room = |inside: usize| (inside < self.most).then_some(inside + 1);
        self.inside
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room)
            .ok()?;
        Some(Place(Mutex::new(Some(Arc::clone(&self.inside)))))
    }
}

/// Guard: a request's place in a crowd.
#[derive(Debug)]
pub(super) struct Place(Mutex<Option<Arc<AtomicUsize>>>);

impl Place {
    pub fn leave(&self) {
        let inside = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        inside.inspect(|inside| {
            inside.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Fault {
    fn apply(&self, request: &Request, answer: &mut Answer) {
        match self {
            Fault::Latency(time) => answer.manner.latency = *time,
            Fault::Rate(rate) => answer.manner.rate = Some(*rate),
            Fault::Crowd(crowd) => match crowd.enter() {
                Some(place) => answer.manner.place = Some(Arc::new(place)),
                None => answer.replace(Answer::text(503, "Too many at once")),
            },
            Fault::Hold(gate) => answer.manner.before.push(gate.clone()),
            Fault::HoldAfter(bytes, gate) => answer.manner.within.push((*bytes, gate.clone())),
            Fault::ResetAfter(bytes) => answer.manner.cut = Some((*bytes, Cut::Reset)),
            Fault::CloseAfter(bytes) => answer.manner.cut = Some((*bytes, Cut::Close)),
            Fault::Excess(bytes) => answer.manner.excess = *bytes,
            Fault::Status(status) => answer.replace(Answer::text(*status, "as told")),
            Fault::Demand(name, value) if request.header(name) == Some(value) => {}
            Fault::Demand(..) => answer.replace(Answer::text(401, "Unauthorized")),
            Fault::ContentFor(name, value, content) => {
                if request.header(name) == Some(value) && answer.source.is_some() {
                    answer.source = Some(content.clone());
                    answer.body.iter_mut().for_each(|piece| piece.content = content.clone());
                }
            }
            Fault::RetryAfter(seconds) => {
                answer.replace(Answer::text(503, "Unavailable").with("Retry-After", seconds.to_string()));
            }
            Fault::RetryAtDate(seconds) => {
                // An HTTP date has whole seconds, and names the beginning of a second.
                let then = SystemTime::now() + Duration::from_secs(seconds + 1);
                let date = httpdate::fmt_http_date(then);
                answer.replace(Answer::text(503, "Unavailable").with("Retry-After", date));
            }
            Fault::NoAnswer => answer.manner.is_silent = true,
            Fault::RefuseHead(status) if request.method == "HEAD" => answer.replace(Answer::text(*status, "No HEAD")),
            Fault::RefuseHead(_) => {}
            Fault::IgnoreRange(framing) => {
                if let Some(source) = answer.source.clone().filter(|_| answer.part.is_some()) {
                    (answer.status, answer.part) = (200, None);
                    answer.body = vec![source.into()];
                }
                answer.framing = *framing;
                answer.unset("Accept-Ranges");
            }
            Fault::MadeWhileSent(content) => {
                answer.replace(Answer::new(200, content.clone()).with("Content-Type", "application/octet-stream"));
                answer.framing = Framing::Chunked;
            }
            Fault::ShiftedRange(by) => {
                if let Some(part) = &mut answer.part {
                    part.start = (part.start + by).min(part.end - 1);
                    answer.body[0].range.start = part.start;
                }
            }
            Fault::ShorterRange(bytes) => {
                if let Some(part) = &mut answer.part {
                    part.end = part.end.min(part.start + bytes);
                    answer.body[0].range.end = part.end;
                }
            }
            Fault::WrongTotal(bytes) => {
                if let Some(part) = &mut answer.part {
                    part.total = *bytes;
                }
            }
            Fault::ContentRange(None) => answer.part = None,
            Fault::ContentRange(Some(text)) => answer.set("Content-Range", *text),
            Fault::Framed(framing) => answer.framing = *framing,
            Fault::Header(name, value) => answer.set(name, *value),
            Fault::AnotherTag(answers) => {
                let number = answers.fetch_add(1, Ordering::Relaxed);
                answer.set("ETag", format!("\"{number}\""));
            }
            Fault::Garbage => answer.manner.is_garbage = true,
            Fault::Multipart => wrap_in_multipart(answer),
            Fault::ClaimGzip => answer.set("Content-Encoding", "gzip"),
            Fault::LoginPage => {
                let page = "<html><body><form>Name <input> Password <input></form></body></html>";
                answer.replace(Answer::new(200, page.into()).with("Content-Type", "text/html"));
            }
            Fault::Redirect(status, target) => {
                answer.replace(Answer::text(*status, "Elsewhere").with("Location", target))
            }
            Fault::SignedLink(target, links) => {
                let link = format!("{target}{}", links.fetch_add(1, Ordering::Relaxed));
                answer.replace(Answer::text(302, "Elsewhere").with("Location", link));
            }
        }
    }
}

fn wrap_in_multipart(answer: &mut Answer) {
    if let Some(Part { start, end, total }) = answer.part.take() {
        let head = format!("\r\n--edge\r\nContent-Range: bytes {start}-{}/{total}\r\n\r\n", end - 1);
        let piece = |text: &str| Piece::from(super::Content::from(text));
        answer.body.insert(0, piece(&head));
        answer.body.push(piece("\r\n--edge--\r\n"));
        answer.set("Content-Type", "multipart/byteranges; boundary=edge");
    }
}

/// All faults of an origin.
pub(super) struct Switches {
    /// Guards the rules. Held while a response is changed, never while one is sent.
    rules: Mutex<Vec<Rule>>,
}

struct Rule {
    path: Option<String>,
    only: Only,
    covering: Option<u64>,
    starting_at: u64,
    /// Number of further responses that it leaves unchanged.
    spared: usize,
    /// Number of further responses that it changes; `None` means all.
    left: Option<usize>,
    fault: Fault,
    hits: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Anything,
    Data,
}

impl Switches {
    pub fn new() -> Switches {
        Switches {
            rules: Mutex::new(Vec::new()),
        }
    }

    pub fn when(&self, path: Option<&str>) -> When<'_> {
        When {
            switches: self,
            path: path.map(str::to_owned),
            only: Only::Anything,
            covering: None,
            starting_at: 0,
            spared: 0,
            times: None,
        }
    }

    /// Changes a response by all rules that apply to its request.
    pub fn apply(&self, request: &Request, answer: &mut Answer) {
        let data = request.method == "GET" && answer.source.is_some();
        for rule in self.lock().iter_mut() {
            if rule.left == Some(0) || !rule.concerns(request, data) {
                continue;
            }
            if rule.spared > 0 {
                rule.spared -= 1;
            } else {
                rule.left = rule.left.map(|left| left - 1);
                rule.hits.fetch_add(1, Ordering::Relaxed);
                rule.fault.apply(request, answer);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Rule {
    fn concerns(&self, request: &Request, data: bool) -> bool {
        let range = request.range();
        self.path.as_ref().is_none_or(|path| *path == request.path)
            && (self.only == Only::Anything || data)
            && self
                .covering
                .is_none_or(|byte| range.is_none_or(|range| range.covers(byte)))
            && self.starting_at <= range.map_or(0, |range| range.first)
    }
}

/// Which requests a fault applies to. Ends with [`When::fault`].
#[must_use = "nothing happens before .fault(…)"]
pub struct When<'a> {
    switches: &'a Switches,
    path: Option<String>,
    only: Only,
    covering: Option<u64>,
    starting_at: u64,
    spared: usize,
    times: Option<usize>,
}

impl<'a> When<'a> {
    /// Only requests for a file's bytes, without `HEAD` and index pages.
    pub fn data(mut self) -> Self {
        self.only = Only::Data;
        self
    }

    /// Only requests whose range contains this byte. A request without a range contains all bytes.
    pub fn covering(mut self, byte: u64) -> Self {
        self.covering = Some(byte);
        self
    }

    /// Only requests whose range begins at this byte or later.
    pub fn starting_at(mut self, byte: u64) -> Self {
        self.starting_at = byte;
        self
    }

    /// Skips the next `spared` of these requests.
    pub fn after(mut self, spared: usize) -> Self {
        self.spared = spared;
        self
    }

    /// Only the next `times` of these requests.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Switches the fault on.
    pub fn fault(self, fault: Fault) -> Switch<'a> {
        let hits = Arc::new(AtomicUsize::new(0));
        let When {
            switches,
            path,
            only,
            covering,
            starting_at,
            spared,
            times,
        } = self;
        let rule = Rule {
            path,
            only,
            covering,
            starting_at,
            spared,
            left: times,
            fault,
            hits: Arc::clone(&hits),
        };
        switches.lock().push(rule);
        Switch { switches, hits }
    }
}

/// A fault that is switched on.
pub struct Switch<'a> {
    switches: &'a Switches,
    hits: Arc<AtomicUsize>,
}

impl Switch<'_> {
    /// Switches it off. Responses that it has changed stay changed.
    pub fn lift(self) {
        self.switches.lock().retain(|rule| !Arc::ptr_eq(&rule.hits, &self.hits));
    }

    /// Number of responses that it has changed.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }
}
