//! An HTTP server that does what it is told, and nothing that an HTTP library would forbid.
//!
//! The tests need an origin that breaks off in the middle of a body, forgets what a range is, lies about where its
//! bytes belong, falls silent, and changes its mind about a file. Libraries are built so that this can't happen, so
//! this one speaks HTTP/1.1 on a bare socket. Left alone it is honest: ranges, validators, conditions, `HEAD`,
//! keep-alive and index pages come out as a good server sends them, and `origin_itself.rs` holds it to that.
//!
//! One [`Origin`] is one origin: a tree of files ([`Origin::add`]), a set of faults that can be switched while requests
//! are under way ([`Origin::on`]), and a log of all that was asked and sent ([`Origin::log`]). Files are [`Content`],
//! whose bytes are computed from their position, so that five gigabytes cost no memory and a byte in the wrong place
//! shows.
//!
//! Order is made, not waited for: a [`Gate`] holds answers back until the test opens it, and
//! [`Log::wait_for`](log::Log::wait_for) returns when the origin has seen what the test describes.
//!
//! To add a fault: a variant in [`Fault`], an arm in `Fault::apply`, a test in `origin_itself.rs`.

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
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use content::Content;
pub use delivery::Framing;
pub use faults::{Crowd, Fault};
pub use gate::Gate;
pub use index::IndexStyle;
pub use log::{End, Requests};
pub use tree::Validators;

/// What stays as it is in a path: letters, digits and RFC 3986's unreserved marks.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A running server on 127.0.0.1; it ends when this is dropped.
pub struct Origin {
    site: Arc<Site>,
    server: server::Server,
}

/// What the connections of one origin share with the test that steers it.
struct Site {
    tree: tree::Tree,
    faults: faults::Switches,
    log: log::Log,
}

impl Origin {
    /// Starts an origin with nothing but an empty root, on a free port.
    pub fn start() -> Origin {
        Origin::start_on(0).expect("a free port on 127.0.0.1")
    }

    /// Starts an origin on `port`; 0 takes a free one.
    pub fn start_on(port: u16) -> io::Result<Origin> {
        let site = Arc::new(Site {
            tree: tree::Tree::new(),
            faults: faults::Switches::new(),
            log: log::Log::new(),
        });
        let server = server::Server::start(Arc::clone(&site), port)?;
        Ok(Origin { site, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of `path`, which is given as people read it: `/with space/a#b` becomes `http://…/with%20space/a%23b`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}", self.address(), encode_path(path))
    }

    /// Puts a file at `path`, together with the directories above it. A file that is there gets a new version: another
    /// ETag and a later date.
    pub fn add(&self, path: &str, content: impl Into<Content>) {
        self.site.tree.add(path, content.into());
    }

    /// Puts another content in the place of the file at `path`, without another date: another ETag is all that tells.
    pub fn replace_keeping_date(&self, path: &str, content: impl Into<Content>) {
        let date = self.modified(path);
        self.site.tree.add_dated(path, content.into(), Some(date));
    }

    /// Puts an empty directory at `path`.
    pub fn add_directory(&self, path: &str) {
        self.site.tree.add_directory(path);
    }

    /// Leaves the file or directory out of index pages: it is served, and not listed.
    pub fn hide(&self, path: &str) {
        self.site.tree.hide(path);
    }

    /// Takes the file away: it is 404 from now on, and its name is gone from the index page.
    pub fn remove(&self, path: &str) {
        self.site.tree.remove(path);
    }

    /// Chooses what the server tells of a file's version.
    pub fn set_validators(&self, path: &str, validators: Validators) {
        self.site.tree.set_validators(path, validators);
    }

    /// When the file's present version was made, as `Last-Modified` and the index page show it.
    pub fn modified(&self, path: &str) -> SystemTime {
        self.site.tree.modified(path)
    }

    /// Chooses what index pages look like.
    pub fn set_index_style(&self, style: IndexStyle) {
        self.site.tree.set_index_style(style);
    }

    /// Begins a fault for requests for `path`.
    pub fn on(&self, path: &str) -> faults::When<'_> {
        self.site.faults.when(Some(path))
    }

    /// Begins a fault for all requests.
    pub fn on_any(&self) -> faults::When<'_> {
        self.site.faults.when(None)
    }

    /// What was asked and sent so far.
    pub fn log(&self) -> &log::Log {
        &self.site.log
    }

    /// Cuts all connections and refuses new ones, but keeps the port.
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
