//! One request, read from a connection.

use std::io;

use percent_encoding::percent_decode_str;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Most bytes read of a request's head. Real clients stay far below.
const LONGEST_HEAD: usize = 64 * 1024;

/// A parsed request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: String,
    /// Percent-decoded; without the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// `Range: bytes=first-last`, as the client wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedRange {
    /// First byte.
    pub first: u64,
    /// Last byte, inclusive; `None` for an open range.
    pub last: Option<u64>,
}

impl AskedRange {
    /// Parses the one form that fetchfs sends. Others are ignored, as RFC 9110 §14.2 allows.
    fn parse(header: &str) -> Option<AskedRange> {
        let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
        let last = if last.is_empty() {
            None
        } else {
            Some(last.parse().ok()?)
        };
        Some(AskedRange {
            first: first.parse().ok()?,
            last,
        })
    }

    /// Whether the range contains this byte.
    pub fn covers(&self, byte: u64) -> bool {
        self.first <= byte && self.last.is_none_or(|last| byte <= last)
    }
}

impl Request {
    /// Reads the next request. `None` if the client closed the connection between two requests.
    ///
    /// `pending` holds bytes received beyond the last request.
    pub async fn read(stream: &mut TcpStream, pending: &mut Vec<u8>) -> io::Result<Option<Request>> {
        let end = loop {
            if let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if pending.len() > LONGEST_HEAD {
                return Err(io::Error::other("the request's head never ends"));
            }
            if stream.read_buf(pending).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&pending[..end]).into_owned();
        pending.drain(..end + 4);
        Request::parse(&head)
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("no request: {head:?}")))
    }

    fn parse(head: &str) -> Option<Request> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let raw_path = target.split('?').next()?;
        let path = percent_decode_str(raw_path).decode_utf8().ok()?.into_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Some(Request {
            method: method.to_owned(),
            path,
            headers: headers.collect(),
        })
    }

    /// The value of a header, case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The requested range.
    pub fn range(&self) -> Option<AskedRange> {
        AskedRange::parse(self.header("range")?)
    }

    /// Whether the client asks to close the connection after this response.
    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}
