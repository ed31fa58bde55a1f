//! A proxy for HTTP and SOCKS5 on one port, as in many office networks.
//!
//! It does the minimum that a proxy may do, and logs the targets of its connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A running proxy. Dropping it ends it.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    /// Dropped without waiting for its tasks.
    runtime: Option<Runtime>,
}

impl Proxy {
    /// A proxy without authentication.
    pub fn start() -> Proxy {
        Proxy::start_for(None)
    }

    /// A proxy that requires this `Proxy-Authorization` for HTTP.
    pub fn start_for(login: Option<&'static str>) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // An error means that a client has left.
                let log = Arc::clone(&log);
                tokio::spawn(async move { serve(stream, login, &log).await.ok() });
            }
        });
        Proxy {
            address,
            seen,
            runtime: Some(runtime),
        }
    }

    /// The address: `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requested targets: `http HOST:PORT`, `connect HOST:PORT` or `socks HOST:PORT`, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic under it").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(mut client: TcpStream, login: Option<&str>, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let note = |kind: &str, target: &str| seen.lock().expect("no panic under it").push(format!("{kind} {target}"));
    let mut first = [0];
    client.peek(&mut first).await?;
    if first == [5] {
        let target = socks_target(&mut client).await?;
        note("socks", &target);
        let mut server = TcpStream::connect(&target).await?;
        client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let mut server = None;
    while let Some(head) = head(&mut client).await? {
        let given = head.lines().find_map(|line| line.strip_prefix("proxy-authorization: "));
        if login.is_some_and(|login| given != Some(login)) {
            client
                .write_all(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
                .await?;
            continue;
        }
        let mut words = head.split(' ');
        let (method, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if method == "CONNECT" {
            note("connect", url);
            let mut server = TcpStream::connect(url).await?;
            client.write_all(b"HTTP/1.1 200 Go on\r\n\r\n").await?;
            copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
        let target = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        note("http", target);
        let request = head.replacen(&format!("http://{target}"), "", 1);
        let server = match &mut server {
            Some(server) => server,
            None => server.insert(TcpStream::connect(target).await?),
        };
        server.write_all(request.as_bytes()).await?;
        pass_answer(server, &mut client, method).await?;
    }
    Ok(())
}

/// Forwards one response that has a Content-Length.
async fn pass_answer(server: &mut TcpStream, client: &mut TcpStream, method: &str) -> io::Result<()> {
    let Some(head) = head(server).await? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    client.write_all(head.as_bytes()).await?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let length = length.filter(|_| method != "HEAD").unwrap_or(0);
    tokio::io::copy(&mut server.take(length), client).await?;
    Ok(())
}

/// Reads up to the empty line; `None` at the end of the connection.
async fn head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// RFC 1928: no login, CONNECT, to an IPv4 address or a name.
async fn socks_target(client: &mut TcpStream) -> io::Result<String> {
    let [_, methods] = [client.read_u8().await?, client.read_u8().await?];
    client.read_exact(&mut vec![0; methods.into()]).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => Ipv4Addr::from(client.read_u32().await?).to_string(),
        3 => {
            let mut name = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut name).await?;
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    Ok(format!("{host}:{}", client.read_u16().await?))
}
