//! A test server that sends exactly the given bytes: standard server libraries can't misbehave.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// The server's reaction to one request.
pub(crate) struct Reply {
    /// Sent unchanged.
    bytes: Vec<u8>,
    after: After,
}

enum After {
    Keep,
    Close,
    Stall,
}

/// Sends these bytes and keeps the connection open for the next request.
pub(crate) fn says(text: impl Into<Vec<u8>>) -> Reply {
    Reply {
        bytes: text.into(),
        after: After::Keep,
    }
}

/// Sends these bytes, then closes the connection.
pub(crate) fn breaks_off(text: impl Into<Vec<u8>>) -> Reply {
    Reply {
        bytes: text.into(),
        after: After::Close,
    }
}

/// Sends these bytes, then stalls.
pub(crate) fn stalls(text: impl Into<Vec<u8>>) -> Reply {
    Reply {
        bytes: text.into(),
        after: After::Stall,
    }
}

/// A running server; it ends with the test's runtime.
pub(crate) struct Server {
    /// Its root.
    pub url: Url,
    /// The heads of the received requests, in order.
    requests: Arc<Mutex<Vec<String>>>,
    /// The peer addresses of the connections, in order.
    peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Server {
    /// Answers each request with the result of `reply` for its head, and its body if it has a length.
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_at("127.0.0.1:0", reply).await.unwrap()
    }

    /// As [`Self::start`], at another address.
    pub(crate) async fn start_at(
        address: &str,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> std::io::Result<Server> {
        let listener = TcpListener::bind(address).await?;
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let server = Server {
            url,
            requests: Arc::default(),
            peers: Arc::default(),
        };
        let (requests, peers) = (server.requests.clone(), server.peers.clone());
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                peers.lock().push(peer);
                tokio::spawn(talk(stream, reply.clone(), requests.clone()));
            }
        });
        Ok(server)
    }

    pub(crate) fn at(&self, path: &str) -> Url {
        self.url.join(path).unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.peers.lock().len()
    }

    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().clone()
    }
}

async fn talk(mut stream: TcpStream, reply: Arc<impl Fn(&str) -> Reply>, requests: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let mut text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let length = text
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        text.push_str(std::str::from_utf8(&body).unwrap());
        let reply = reply(&text);
        requests.lock().push(text);
        if stream.write_all(&reply.bytes).await.is_err() {
            return;
        }
        match reply.after {
            After::Keep => {}
            After::Close => return,
            After::Stall => std::future::pending().await,
        }
    }
}
