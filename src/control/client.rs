//! The user's end of the socket. Blocking: the commands that use it have nothing else to do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::protocol::{Hello, LONGEST_REPLY, PROTOCOL, Reply, Request};

/// How long a daemon may be silent. It tells progress several times a second; looking names up may take as long as a server
/// does.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to greet: it does so before it does anything else, so one that does not is stopped, or hangs.
const GREETING: Duration = Duration::from_secs(15);

/// Why a mount has not done what was asked. Each `Display` is the end of a sentence about the mount.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("its process can't be asked ({0}); was it started by an older fetchfs?")]
    NotListening(io::Error),
    /// Nothing came for too long.
    #[error(
        "its process has not answered for {}; its log may say why",
        humantime::format_duration(*.0)
    )]
    Silent(Duration),
    /// The conversation broke off.
    #[error("its process has broken off the conversation ({0}); its log may say why")]
    BrokenOff(io::Error),
    /// Another version of the protocol.
    #[error("it is served by fetchfs {0}, which this version can't talk to; mount it anew")]
    OtherVersion(String),
    /// It said no, and why.
    #[error("{0}")]
    Refused(String),
}

/// A request under way. Dropped before its last reply, it is taken back.
#[derive(Debug)]
pub struct Client {
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Asks the daemon that listens at this address.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn ask(address: &SocketAddr, request: &Request) -> Result<Client, ClientError> {
        let stream = UnixStream::connect_addr(address).map_err(ClientError::NotListening)?;
        stream
            .set_read_timeout(Some(GREETING))
            .and_then(|()| stream.set_write_timeout(Some(GREETING)))
            .map_err(ClientError::NotListening)?;
        let mut client = Client {
            lines: BufReader::new(stream),
        };
        let hello: Hello = client
            .hear()
            .map_err(|error| silent(&error, GREETING).unwrap_or(ClientError::NotListening(error)))?;
        if hello.protocol != PROTOCOL {
            return Err(ClientError::OtherVersion(hello.fetchfs));
        }
        let mut line = serde_json::to_vec(request).map_err(|error| ClientError::BrokenOff(error.into()))?;
        line.push(b'\n');
        let mut stream = client.lines.get_ref();
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.write_all(&line))
            .map_err(ClientError::BrokenOff)?;
        Ok(client)
    }

    /// The next reply.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for a refusal; otherwise when there is none.
    pub fn reply(&mut self) -> Result<Reply, ClientError> {
        let heard = self
            .hear()
            .map_err(|error| silent(&error, PATIENCE).unwrap_or(ClientError::BrokenOff(error)))?;
        match heard {
            Reply::Refused { reason } => Err(ClientError::Refused(reason)),
            reply => Ok(reply),
        }
    }

    fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        (&mut self.lines).take(LONGEST_REPLY).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

/// Whether it was the patience that ended: a socket's timeout is one of these.
fn silent(error: &io::Error, patience: Duration) -> Option<ClientError> {
    let is_timeout = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    is_timeout.then_some(ClientError::Silent(patience))
}
