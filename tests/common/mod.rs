//! The harness: mounts, real web servers and files on disk. Each is a guard that leaves nothing behind.
//!
//! No test sleeps to wait for something. A mount reports when it is ready, a process when it has ended, the origin
//! when it has received a request. Without an event (a foreign server that begins to listen) the harness polls, up to
//! a limit. Every wait has a limit and names what it waited for. [`Mount`] ends a daemon that has lived too long, so
//! that a hanging reader gets an error.

pub mod black_hole;
pub mod cached;
pub mod disk;
pub mod dns;
pub mod exposition;
pub mod files;
pub mod fleet;
pub mod ground;
pub mod log;
pub mod mount;
pub mod mute;
pub mod network;
pub mod process;
pub mod proxies;
pub mod servers;
pub mod tier;

pub use mount::{Mount, fetchfs};
pub use process::run;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

/// Maximum wait for something that must happen. Far longer than a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A new directory that other users can read, for servers that run as another user.
pub fn temporary_directory() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("fetchfs-test-")
        .tempdir()
        .expect("a temporary directory");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("to open it to others");
    directory
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The path of a program, searched in `PATH` and in the usual directories of servers. A test fails without it: a
/// skipped test keeps no promise.
#[track_caller]
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let candidates = std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name));
    candidates
        .into_iter()
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!("this test needs {name}: apt-get install {package} (scripts/install-deps.sh test installs all)")
        })
}

/// Polls until `is_so`. Fails the test after [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
