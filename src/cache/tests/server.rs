//! A server of one file whose behaviour each test sets.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use url::Url;

use Conduct::*;

use crate::origin::{Content, ListedSize};

/// The server's reaction to one request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Conduct {
    Honest,
    /// Honest, with another ETag: the file has changed.
    Tagged(&'static str),
    /// This many bytes of the body, and then the end of the connection.
    CutAfter(usize),
    /// The whole file, whatever range was requested; cut off after this many bytes.
    Whole(usize),
    /// One byte of a file with an impossible size.
    Announce(u64),
}

/// A server of one file, at any path. It ends with the test's process.
pub(super) struct Server {
    pub(super) url: Url,
    /// The requested ranges; exclusive ends.
    asked: Arc<Mutex<Vec<Range<u64>>>>,
    pub(super) connections: Arc<AtomicUsize>,
}

impl Server {
    /// `conduct` is called with the number of earlier requests, and the requested range.
    pub(super) fn start(
        content: Vec<u8>,
        conduct: impl Fn(usize, &Range<u64>) -> Conduct + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            url: Url::parse(&format!("http://{}/f", listener.local_addr().unwrap())).unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
        };
        let shared = Arc::new((content, conduct));
        let (asked, connections) = (Arc::clone(&server.asked), Arc::clone(&server.connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (shared, asked) = (Arc::clone(&shared), Arc::clone(&asked));
                // Ends when the client closes the connection, in any way.
                thread::spawn(move || talk(&stream.unwrap(), &shared.0, &shared.1, &asked));
            }
        });
        server
    }

    /// The file as a source that gives no size has it.
    pub(super) fn content(&self) -> Content {
        Content::at(self.url.clone(), ListedSize::Unknown)
    }

    pub(super) fn asked(&self) -> Vec<Range<u64>> {
        self.asked.lock().clone()
    }
}

fn talk(
    mut stream: &TcpStream,
    content: &[u8],
    conduct: &impl Fn(usize, &Range<u64>) -> Conduct,
    asked: &Mutex<Vec<Range<u64>>>,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let size = content.len() as u64;
    loop {
        let (mut range, mut is_head) = (None, false);
        loop {
            let line = lines.next()?.ok()?.to_lowercase();
            is_head |= line.starts_with("head ");
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("range: bytes=") {
                let (first, last) = text.split_once('-')?;
                range = Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1);
            }
        }
        if is_head {
            // Nothing is known of the file as a whole.
            stream.write_all(b"HTTP/1.1 405 M\r\nContent-Length: 0\r\n\r\n").ok()?;
            continue;
        }
        let range: Range<u64> = range.expect("the cache asks for ranges, and by HEAD");
        let before = {
            let mut asked = asked.lock();
            asked.push(range.clone());
            asked.len() - 1
        };
        let conduct = conduct(before, &range);
        let part = range.start.min(size)..range.end.min(size);
        let tag = if let Tagged(tag) = conduct { tag } else { "v1" };
        let partial = |part: &Range<u64>, total: u64| {
            let (first, last, length) = (part.start, part.end - 1, part.end - part.start);
            format!(
                "HTTP/1.1 206 P\r\nETag: \"{tag}\"\r\nContent-Range: bytes {first}-{last}/{total}\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        let (head, body, most) = match conduct {
            Whole(most) => {
                let head = format!("HTTP/1.1 200 OK\r\nETag: \"{tag}\"\r\nContent-Length: {size}\r\n\r\n");
                (head, content, most)
            }
            Announce(total) => (partial(&(range.start..range.start + 1), total), &[7][..], 1),
            _ if part.is_empty() => {
                let head = format!("HTTP/1.1 416 R\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\n\r\n");
                (head, &[][..], 0)
            }
            _ => {
                let most = if let CutAfter(most) = conduct { most } else { usize::MAX };
                (
                    partial(&part, size),
                    &content[part.start as usize..part.end as usize],
                    most,
                )
            }
        };
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&body[..most.min(body.len())]).ok()?;
        if most < body.len() {
            return stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}
