//! Finds the line of a response's head that is not HTTP.
//!
//! The HTTP library reports that it could not read a head, but not the line. So that the error can name it, this module
//! requests the same URL once more, without TLS, proxy or credentials, and discards what it receives.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::head::excerpt;

/// Maximum time: the error waits for this.
const PATIENCE: Duration = Duration::from_secs(1);

/// Maximum bytes of the response to read.
const MOST: usize = 16 << 10;

/// The first malformed line of the head, as an excerpt for messages.
pub(crate) async fn odd_line(url: &Url) -> Option<String> {
    let head = timeout(PATIENCE, head_of(url)).await.ok()??;
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let first = lines.next()?;
    let is_status_line = first.starts_with(b"HTTP/1.");
    let odd = match is_status_line {
        false => first,
        true => lines
            .take_while(|line| !line.is_empty())
            .find(|line| line.iter().any(|byte| *byte < b' ' && *byte != b'\t'))?,
    };
    Some(excerpt(&String::from_utf8_lossy(odd).escape_debug().to_string()))
}

async fn head_of(url: &Url) -> Option<Vec<u8>> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let address = (host.trim_start_matches('[').trim_end_matches(']'), port);
    let mut stream = TcpStream::connect(address).await.ok()?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nRange: bytes=0-0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    // A server that pauses has sent what there is to see.
    while head.len() < MOST && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 2048];
        match timeout(PATIENCE / 2, stream.read(&mut piece)).await {
            Ok(Ok(read @ 1..)) => head.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    (!head.is_empty()).then_some(head)
}
