//! `fusermount3`, the setuid helper through which ordinary users mount and unmount (its source is libfuse's
//! util/fusermount.c).

use std::ffi::OsString;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

const NAME: &str = "fusermount3";

/// Directories to search besides `PATH`: in a unit file or cron, `PATH` may be short.
const USUAL_PLACES: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/sbin", "/run/wrappers/bin"];

/// The environment variable with the number of the descriptor over which the helper sends the mount's.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// The helper's path.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(USUAL_PLACES.map(PathBuf::from))
        .map(|dir| dir.join(NAME))
        .find(|program| program.is_absolute() && program.is_file())
}

/// Mounts on `path` with `-o options`; returns the mount's `/dev/fuse`.
///
/// # Errors
/// The helper's own message.
pub(super) fn mount(program: &Path, path: &Path, options: &str) -> Result<OwnedFd, String> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    // The socket is the helper's standard input, the only descriptor that passes to a program without a change of its
    // flags in the forked child.
    let mut child = command(program)
        .env(SOCKET_VARIABLE, "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .args(["-o", options, "--"])
        .arg(path)
        .spawn()
        .map_err(|error| error.to_string())?;
    // The command is dropped by now, and with it our copy of the helper's end. If the helper fails, its exit ends this
    // wait.
    let received = receive(&ours);
    let mut words = String::new();
    let read = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut words));
    let status = child.wait().map_err(|error| error.to_string())?;
    match (received, status.success(), read) {
        (Ok(Some(device)), true, _) => Ok(device),
        (Err(error), true, _) => Err(error.to_string()),
        _ => Err(said(&words, status)),
    }
}

/// Unmounts `path`. As with [`mount`], the error is the helper's message.
pub(super) fn unmount(program: &Path, path: &Path, lazy: bool) -> Result<(), String> {
    let mut arguments: Vec<OsString> = vec!["-u".into()];
    arguments.extend(lazy.then(|| "-z".into()));
    arguments.extend(["--".into(), path.into()]);
    let output = command(program)
        .stdin(Stdio::null())
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(said(&String::from_utf8_lossy(&output.stderr), output.status))
    }
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    // English messages, because this module parses them.
    command.env("LC_ALL", "C").stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn said(words: &str, status: ExitStatus) -> String {
    let prefix = format!("{NAME}: ");
    // The helper begins its lines with its name, or with its name and then its path.
    let lines: Vec<_> = words
        .lines()
        .map(|line| line.rsplit_once(&prefix).map_or(line, |(_, line)| line).trim())
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        format!("{NAME} failed ({status})")
    } else {
        format!("{prefix}{}", lines.join("; "))
    }
}

/// Waits for a descriptor; `None` if the other side closed without sending one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = loop {
        match recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut data,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part
            && let Some(&descriptor) = descriptors.first()
        {
            // SAFETY: the kernel has just made this descriptor for us; no other code knows its number.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_helpers_words_are_passed_on_once_with_its_name() {
        let failed = ExitStatus::from_raw(256);
        assert_eq!(said("fusermount3: no access\n", failed), "fusermount3: no access");
        assert_eq!(said("fusermount3: a\nfusermount3: b\n", failed), "fusermount3: a; b");
        assert_eq!(
            said("fusermount3: /usr/bin/fusermount3: no\n", failed),
            "fusermount3: no"
        );
        assert_eq!(said("\n", failed), "fusermount3 failed (exit status: 1)");
    }

    #[test]
    fn a_helper_that_fails_ends_the_wait() {
        assert!(
            mount(Path::new("/bin/false"), Path::new("/"), "ro")
                .unwrap_err()
                .contains("exit status")
        );
        assert!(mount(Path::new("/bin/true"), Path::new("/"), "ro").is_err());
    }
}
