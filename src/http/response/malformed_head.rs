//! Which line of an answer's head is no HTTP.
//!
//! The HTTP library says that it could not read a head, and not what stood there. So that a refusal can name the line, the same URL is
//! asked once more here, without TLS, proxy or credentials, and what comes is looked at and thrown away.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::head::excerpt;

/// The longest that it may take: the refusal waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of the answer that are looked at.
const MOST: usize = 16 << 10;

/// The first line of the head that can't be read, as far as it is fit for a message.
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
    // A server that says little and waits has said what there is to see.
    while head.len() < MOST && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 2048];
        match timeout(PATIENCE / 2, stream.read(&mut piece)).await {
            Ok(Ok(read @ 1..)) => head.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    (!head.is_empty()).then_some(head)
}
