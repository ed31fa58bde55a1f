//! The sockets of the origin: listening, not listening, and one task for each connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::Site;
use super::request::Request;
use super::respond;

/// Length of the accept queue.
const BACKLOG: u32 = 1024;

/// A port with a server, or, while it is down, without one.
pub(super) struct Server {
    address: SocketAddr,
    site: Arc<Site>,
    connections: Arc<AtomicUsize>,
    /// Number of the current period of being up. A change ends the listener and all connections of the period before.
    epoch: watch::Sender<u64>,
    /// Holds the port while the server is down: a bound socket that does not listen refuses connections, and no other
    /// process can take the port.
    placeholder: Mutex<Option<TcpSocket>>,
    /// Dropped without waiting for its tasks.
    runtime: Option<Runtime>,
}

impl Server {
    pub fn start(site: Arc<Site>, address: SocketAddr) -> io::Result<Server> {
        // Two threads: one fills a body while the other accepts, even on a machine with one core.
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("origin")
            .enable_all()
            .build()?;
        let socket = {
            let _inside = runtime.enter();
            bind(address)?
        };
        let server = Server {
            address: socket.local_addr()?,
            site,
            connections: Arc::default(),
            epoch: watch::Sender::new(0),
            placeholder: Mutex::new(None),
            runtime: Some(runtime),
        };
        server.listen(socket)?;
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn go_down(&self) {
        let mut placeholder = self.placeholder();
        assert!(placeholder.is_none(), "the origin is down already");
        let runtime = self.runtime();
        let _inside = runtime.enter();
        // Bound before the listener closes, or another test's connection might get the port in between.
        *placeholder = Some(bind(self.address).expect("a port that is ours"));
        self.epoch.send_modify(|epoch| *epoch += 1);
        runtime.block_on(self.epoch.closed());
    }

    pub fn come_back(&self) {
        let socket = self.placeholder().take().expect("the origin is down");
        self.listen(socket).expect("to listen on a port that is ours");
    }

    fn listen(&self, socket: TcpSocket) -> io::Result<()> {
        let runtime = self.runtime();
        let _inside = runtime.enter();
        let listener = socket.listen(BACKLOG)?;
        let accept = accept(
            listener,
            Arc::clone(&self.site),
            Arc::clone(&self.connections),
            self.epoch.subscribe(),
        );
        runtime.spawn(accept);
        Ok(())
    }

    fn placeholder(&self) -> std::sync::MutexGuard<'_, Option<TcpSocket>> {
        self.placeholder.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("taken only by drop")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // For the listener and its placeholder.
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts connections until the epoch ends.
async fn accept(
    listener: TcpListener,
    site: Arc<Site>,
    connections: Arc<AtomicUsize>,
    mut epoch: watch::Receiver<u64>,
) {
    loop {
        let accepted = tokio::select! {
            _ = epoch.changed() => break,
            accepted = listener.accept() => accepted,
        };
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => panic!("the origin can't accept connections: {error}"),
        };
        let number = connections.fetch_add(1, Ordering::Relaxed);
        let (site, mut epoch) = (Arc::clone(&site), epoch.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = epoch.changed() => {
                    let _ = stream.set_zero_linger();
                }
                // An error means that the client left, which is in the log.
                _ = converse(&mut stream, number, &site) => {}
            }
            drop(stream);
            drop(epoch);
        });
    }
    // First the socket, then the receiver: `go_down` takes the end of all receivers for the end of all sockets.
    // Closing the socket is not enough. A process that another test forks at this moment has it open until it
    // executes its program, and would keep it listening.
    shutdown(listener.as_raw_fd(), Shutdown::Read).expect("to stop listening");
    drop(listener);
    drop(epoch);
}

/// Answers the requests of one connection in order.
async fn converse(stream: &mut TcpStream, number: usize, site: &Site) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut pending = Vec::new();
    while let Some(request) = Request::read(stream, &mut pending).await? {
        let mut entry = site.log.begin(number, &request);
        let mut answer = respond::answer(&request, &site.tree);
        site.faults.apply(&request, &mut answer);
        if !answer
            .send(stream, &request.method, request.closes(), &mut entry)
            .await?
        {
            break;
        }
    }
    Ok(())
}
