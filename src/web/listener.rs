//! The socket of the status page: made before the mount asks any server, and gone with it.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};

use super::config::{ListenAddress, WebConfig};

/// A socket that listens. Nothing is accepted before it is served.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(super) socket: Socket,
    pub(super) config: WebConfig,
    /// Where it is, for people: a URL, or `unix:PATH`.
    address: String,
}

/// The two kinds of sockets.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// Why it can't: one sentence for the user.
    pub(crate) fn bind(config: &WebConfig) -> anyhow::Result<Listener> {
        let (socket, address) = match &config.listen {
            ListenAddress::Tcp(address) => {
                let (listener, bound) = bind_tcp(*address)?;
                (Socket::Tcp(listener, bound), format!("http://{bound}/"))
            }
            ListenAddress::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                (Socket::Unix(listener, file), config.listen.to_string())
            }
        };
        Ok(Listener {
            socket,
            config: config.clone(),
            address,
        })
    }

    /// Where it is, for people: a URL, or `unix:PATH`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

fn bind_tcp(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let bound = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bound().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "--http-listen {address}: another program listens there; choose another port, or port 0 for a free one"
        ),
        io::ErrorKind::AddrNotAvailable => anyhow!("--http-listen {address}: this machine does not have that address"),
        io::ErrorKind::PermissionDenied => {
            anyhow!("--http-listen {address}: only root may listen at this port; choose one above 1023")
        }
        _ => anyhow!("--http-listen {address}: {error}"),
    })
}

fn bind_unix(path: &Path) -> anyhow::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let bound = || -> io::Result<_> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // Before bind, which gives the file the socket's mode: so there is no moment in which others may connect.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        let file = SocketFile::at(path)?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok((UnixListener::from(socket), file))
    };
    bound().with_context(|| format!("--http-listen unix:{}", path.display()))
}

/// Removes a socket that a killed process has left.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let name = path.display();
    if !there.file_type().is_socket() {
        bail!("--http-listen unix:{name}: something else is there; name a path that does not exist");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("--http-listen unix:{name}: the old socket can't be removed"))
        }
        Ok(_) => bail!("--http-listen unix:{name}: another program listens there; choose another path"),
        Err(error) => bail!("--http-listen unix:{name}: {error}"),
    }
}

/// The file of a Unix socket. Removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Another process may have replaced the file.
    identity: Identity,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            // If it fails, the socket is stale, and the next mount replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device, inode and time of creation: inodes are used again. A file system may not know the time.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|there| (there.dev(), there.ino(), there.created().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn listener(listen: &str) -> anyhow::Result<Listener> {
        Listener::bind(&WebConfig {
            listen: listen.parse().unwrap(),
            hosts: Vec::new(),
            token: None,
        })
    }

    #[test]
    fn free_port_is_chosen_and_named() {
        let one = listener("127.0.0.1:0").unwrap();
        let address = one
            .address()
            .strip_prefix("http://")
            .unwrap()
            .trim_end_matches('/')
            .to_owned();
        assert!(!address.ends_with(":0"), "{address}");
        let taken = listener(&address).unwrap_err().to_string();
        assert_eq!(
            taken,
            format!(
                "--http-listen {address}: another program listens there; choose another port, or port 0 for a free one"
            )
        );
        drop(one);
        listener(&address).unwrap();
        let elsewhere = listener("192.0.2.1:0").unwrap_err().to_string();
        assert!(elsewhere.ends_with("does not have that address"), "{elsewhere}");
    }

    #[test]
    fn socket_is_private_and_leaves_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listen = format!("unix:{}", path.display());
        let one = listener(&listen).unwrap();
        assert_eq!(one.address(), listen);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let taken = listener(&listen).unwrap_err().to_string();
        assert!(taken.contains("another program listens there"), "{taken}");
        // As after a kill: the file stays.
        let Socket::Unix(socket, file) = one.socket else {
            panic!("it is one")
        };
        drop(socket);
        let two = listener(&listen).unwrap();
        drop(file);
        assert!(path.exists(), "it is the second one's");
        drop(two);
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        let occupied = listener(&listen).unwrap_err().to_string();
        assert!(occupied.contains("something else is there"), "{occupied}");
        let missing = listener(&format!("unix:{}/no/s", dir.path().display())).unwrap_err();
        assert!(format!("{missing:#}").contains("No such file"), "{missing:#}");
    }
}
