//! The client's end of the control socket. It blocks, because the commands that use it have nothing else to do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::protocol::{Hello, LONGEST_REPLY, PROTOCOL, Reply, Request};

/// Maximum silence of the daemon. It reports progress several times a second, but a look-up may take as long as a
/// slow server.
const PATIENCE: Duration = Duration::from_secs(120);

/// Maximum time until the greeting. The daemon greets before anything else, so a later one is stopped or hangs.
const GREETING: Duration = Duration::from_secs(15);

/// Why a mount did not do what was asked. Each `Display` is the end of a sentence about the mount.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No process listens on the socket.
    #[error("can't connect to its process ({0}); was it started by an older fetchfs?")]
    NotListening(io::Error),
    /// No reply within the time limit.
    #[error(
        "its process has not responded for {}; see its log",
        humantime::format_duration(*.0)
    )]
    Silent(Duration),
    /// The connection broke.
    #[error("its process has closed the connection ({0}); see its log")]
    BrokenOff(io::Error),
    /// The daemon speaks another version of the protocol.
    #[error(
        "it is served by fetchfs {0}, whose protocol is not compatible with this version; unmount it and mount \
             it again"
    )]
    OtherVersion(String),
    /// The daemon refused the request, with this reason.
    #[error("{0}")]
    Refused(String),
}

/// A request in progress. Dropping it before the last reply cancels the request.
#[derive(Debug)]
pub(crate) struct Client {
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Sends a request to the daemon at this address.
    ///
    /// # Errors
    /// If the daemon can't be reached or speaks another version.
    pub(crate) fn ask(address: &SocketAddr, request: &Request) -> Result<Client, ClientError> {
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

    /// The connection, by which another thread can end the request.
    ///
    /// # Errors
    /// If the process has too many descriptors.
    pub(crate) fn connection(&self) -> io::Result<UnixStream> {
        self.lines.get_ref().try_clone()
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the daemon refused; another kind if no reply came.
    pub(crate) fn reply(&mut self) -> Result<Reply, ClientError> {
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

/// Returns an error if the socket's timeout expired: these kinds stand for it.
fn silent(error: &io::Error, patience: Duration) -> Option<ClientError> {
    let is_timeout = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    is_timeout.then_some(ClientError::Silent(patience))
}
