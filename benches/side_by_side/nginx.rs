//! An nginx in the foreground, for the origin and for a tier.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::process;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(15);

/// Starts nginx with this configuration and waits until these ports answer. Its files are in `folder`.
///
/// # Errors
/// When it does not come to answer; the text has what nginx printed.
pub fn start(folder: &Path, config: &str, ports: &[u16]) -> Result<Child> {
    let file = |name: &str| folder.join(name);
    fs::write(file("config"), config)?;
    let output = fs::File::create(file("output"))?;
    let mut command = Command::new("nginx");
    // Servers are in sbin, which ordinary users don't have in their PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command.arg("-e").arg(file("error")).arg("-c").arg(file("config"));
    if nix::unistd::geteuid().is_root() {
        // Workers that run as another user could look neither into the corpus nor into the work folder.
        command.args(["-g", "user root;"]);
    }
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let mut child = process::spawn(&mut command)?;
    let up = process::poll_until(PATIENCE, || {
        if child.try_wait()?.is_some() {
            return Ok(Some(false));
        }
        Ok(ports.iter().all(answers).then_some(true))
    })?;
    if up == Some(true) {
        return Ok(child);
    }
    process::end(&mut child);
    let said = ["output", "error"].map(|name| fs::read_to_string(file(name)).unwrap_or_default());
    bail!("nginx does not start: {}", said.concat())
}

/// Returns true if a server listens on this port.
pub fn answers(port: &u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok()
}

/// Ports that no server listens on.
///
/// # Errors
/// When there are none left.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until all are known, or two could be the same.
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let port = |listener: &std::io::Result<TcpListener>| match listener {
        Ok(listener) => Ok(listener.local_addr()?.port()),
        Err(error) => bail!("no free port: {error}"),
    };
    let mut ports = [0; N];
    for (number, listener) in ports.iter_mut().zip(&listeners) {
        *number = port(listener)?;
    }
    Ok(ports)
}
