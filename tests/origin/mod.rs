//! An HTTP server that misbehaves on request, in ways that an HTTP library would forbid.
//!
//! The tests need an origin that breaks off in the middle of a body, ignores ranges, sends a wrong Content-Range,
//! falls silent, and changes a file. Libraries prevent that, so this server speaks HTTP/1.1 on a bare socket. Without
//! faults it is honest: ranges, validators, conditions, `HEAD`, keep-alive and index pages are those of a good
//! server, and `origin_server.rs` tests that.
//!
//! One [`Origin`] is one origin, with:
//!
//! - a tree of files ([`Origin::add`]),
//! - faults that can be switched while requests are in flight ([`Origin::on`]),
//! - a log of all requests and responses ([`Origin::log`]).
//!
//! Files are [`Content`], whose bytes are computed from their position. So five gigabytes cost no memory, and a byte
//! in the wrong place is detected.
//!
//! Tests control the order of events: a [`Gate`] holds responses back until the test opens it, and
//! [`Log::wait_for`](log::Log::wait_for) returns when the origin has received what the test describes.
//!
//! To add a fault: a variant in [`Fault`], an arm in `Fault::apply`, a test in `origin_server.rs`.

mod content;
mod delivery;
mod faults;
mod gate;
mod index;
mod log;
mod request;
mod respond;
mod server;
mod tree;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use content::Content;
pub use delivery::Framing;
pub use faults::{Crowd, Fault};
pub use gate::Gate;
pub use index::{IndexStyle, PageTags};
pub use log::{End, Requests};
pub use tree::Validators;

/// Characters that are not encoded in a path: letters, digits and RFC 3986's unreserved marks.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A running server, on 127.0.0.1 as a rule. Dropping it ends it.
pub struct Origin {
    site: Arc<Site>,
    server: server::Server,
}

/// State that an origin's connections share with the test.
struct Site {
    tree: tree::Tree,
    faults: faults::Switches,
    log: log::Log,
}

impl Origin {
    /// Starts an origin with an empty root on a free port.
    pub fn start() -> Origin {
        Origin::start_on(0).expect("a free port on 127.0.0.1")
    }

    /// Starts an origin with files of 1,000 bytes at these paths.
    pub fn with_files(paths: &[&str]) -> Origin {
        let origin = Origin::start();
        for path in paths {
            origin.add(path, Content::noise(1000, 1));
        }
        origin
    }

    /// Starts an origin on `port`; 0 means a free one.
    pub fn start_on(port: u16) -> io::Result<Origin> {
        Origin::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Starts an origin at another address than 127.0.0.1.
    pub fn start_at(address: SocketAddr) -> io::Result<Origin> {
        let site = Arc::new(Site {
            tree: tree::Tree::new(),
            faults: faults::Switches::new(),
            log: log::Log::new(),
        });
        let server = server::Server::start(Arc::clone(&site), address)?;
        Ok(Origin { site, server })
    }

    /// The address of its listener.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of an unencoded `path`: `/with space/a#b` becomes `http://…/with%20space/a%23b`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}", self.address(), encode_path(path))
    }

    /// Adds a file at `path`, and the directories above it. An existing file gets a new version: another ETag and a
    /// later date.
    pub fn add(&self, path: &str, content: impl Into<Content>) {
        self.site.tree.add(path, content.into());
    }

    /// Replaces the content of the file at `path` without another date: only the ETag differs.
    pub fn replace_keeping_date(&self, path: &str, content: impl Into<Content>) {
        let date = self.modified(path);
        self.site.tree.add_dated(path, content.into(), Some(date));
    }

    /// Adds an empty directory at `path`.
    pub fn add_directory(&self, path: &str) {
        self.site.tree.add_directory(path);
    }

    /// Leaves the file or directory out of index pages: it is served, but not listed.
    pub fn hide(&self, path: &str) {
        self.site.tree.hide(path);
    }

    /// Removes the file: it is 404 from now on, and gone from the index page.
    pub fn remove(&self, path: &str) {
        self.site.tree.remove(path);
    }

    /// Sets which validators the server sends for a file.
    pub fn set_validators(&self, path: &str, validators: Validators) {
        self.site.tree.set_validators(path, validators);
    }

    /// The date of the file's current version, as in `Last-Modified` and the index page.
    pub fn modified(&self, path: &str) -> SystemTime {
        self.site.tree.modified(path)
    }

    /// Sets the form of index pages.
    pub fn set_index_style(&self, style: IndexStyle) {
        self.site.tree.set_index_style(style);
    }

    /// Sets which entity tags index pages have.
    pub fn set_page_tags(&self, page_tags: PageTags) {
        self.site.tree.set_page_tags(page_tags);
    }

    /// Starts the definition of a fault for requests for `path`.
    pub fn on(&self, path: &str) -> faults::When<'_> {
        self.site.faults.when(Some(path))
    }

    /// Starts the definition of a fault for all requests.
    pub fn on_any(&self) -> faults::When<'_> {
        self.site.faults.when(None)
    }

    /// The log of requests and responses.
    pub fn log(&self) -> &log::Log {
        &self.site.log
    }

    /// Closes all connections and refuses new ones, but keeps the port.
    pub fn go_down(&self) {
        self.server.go_down();
    }

    /// Listens again, on the same port.
    pub fn come_back(&self) {
        self.server.come_back();
    }
}

/// A path with each of its components percent-encoded.
fn encode_path(path: &str) -> String {
    path.split('/')
        .map(|part| utf8_percent_encode(part, ENCODED).to_string())
        .collect::<Vec<_>>()
        .join("/")
}
