//! What this machine offers to a mount.

use std::fs;
use std::path::Path;

use bytesize::ByteSize;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access, geteuid};

use super::Finding;
use crate::engine::refuse_shared;
use crate::mount::mountpoint;

/// The kernel that has FUSE passthrough (`fs/fuse/passthrough.c`): major and minor number.
const PASSTHROUGH_SINCE: (u32, u32) = (6, 9);

/// Fewer open files are too few for players, scanners and sixteen connections together.
const FEW_OPEN_FILES: u64 = 4096;

/// Less free space makes a cache of little use.
const LITTLE_SPACE: u64 = 1 << 30;

/// Everything, in the order of a mount's obstacles.
pub(super) fn all(cache_dir: &Path, is_unshared: bool) -> Vec<Finding> {
    let mut findings = vec![kernel(), device()];
    if !geteuid().is_root() {
        findings.extend([helper(), other_users()]);
    }
    findings.extend([passthrough(), open_files()]);
    findings.extend(cache_directory(cache_dir, is_unshared));
    findings
}

fn kernel() -> Finding {
    Finding::good(
        "kernel",
        format!("Linux {}, fetchfs {}", release(), env!("CARGO_PKG_VERSION")),
    )
}

/// The kernel's release, such as `6.12.8-amd64`.
fn release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

fn device() -> Finding {
    match mountpoint::check_device() {
        Ok(()) => Finding::good("/dev/fuse", "it can be opened"),
        Err(error) => Finding::failed("/dev/fuse", &error.to_string()),
    }
}

/// The program by which ordinary users mount.
fn helper() -> Finding {
    const SUBJECT: &str = "fusermount3";
    match mountpoint::helper() {
        Some(path) => Finding::good(SUBJECT, path.display().to_string()),
        None => Finding::bad(
            SUBJECT,
            "it is not installed, and ordinary users can't mount without it",
            "install the package fuse3",
        ),
    }
}

fn other_users() -> Finding {
    const SUBJECT: &str = "other users";
    if mountpoint::may_allow_other() {
        Finding::good(SUBJECT, "--allow-other may be used")
    } else {
        Finding::note(
            SUBJECT,
            "only you see what you mount, not even root does",
            "if others shall: as root, write `user_allow_other` into /etc/fuse.conf, and use --allow-other",
        )
    }
}

/// Whether the kernel reads cached files by itself.
fn passthrough() -> Finding {
    const SUBJECT: &str = "passthrough";
    let release = release();
    match (version(&release) >= PASSTHROUGH_SINCE, geteuid().is_root()) {
        (true, true) => Finding::good(SUBJECT, "the kernel can read cached files by itself"),
        (false, _) => Finding::note(
            SUBJECT,
            "this kernel can't read cached files by itself, so they are read at about half the rate",
            "Linux 6.9 or newer can, for mounts of root",
        ),
        (true, false) => Finding::note(
            SUBJECT,
            "the kernel reads cached files by itself for mounts of root only; yours are read at about half the rate",
            "mount as root with --allow-other if that matters",
        ),
    }
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn open_files() -> Finding {
    const SUBJECT: &str = "open files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most < FEW_OPEN_FILES => Finding::note(
            SUBJECT,
            format!("a mount may have {most}: connections and open files together"),
            "raise the limit: `ulimit -Hn`, LimitNOFILE= in a unit, /etc/security/limits.conf",
        ),
        Ok((_, most)) => Finding::good(SUBJECT, format!("a mount may have {most}")),
        Err(error) => Finding::note(
            SUBJECT,
            format!("the limit is unknown: {error}"),
            "nothing, if files open",
        ),
    }
}

/// The directory of the cache, or the nearest one above that exists.
fn cache_directory(cache_dir: &Path, is_unshared: bool) -> Vec<Finding> {
    const SUBJECT: &str = "cache";
    let elsewhere = "choose another directory with --cache-dir";
    let shown = cache_dir.display();
    if !is_unshared && let Err(error) = refuse_shared(cache_dir) {
        return vec![Finding::failed(SUBJECT, &error.to_string())];
    }
    let Some(existing) = cache_dir.ancestors().find(|path| path.exists()) else {
        return vec![Finding::bad(SUBJECT, format!("{shown} can't be reached"), elsewhere)];
    };
    if !existing.is_dir() {
        return vec![Finding::bad(
            SUBJECT,
            format!("{} is not a directory", existing.display()),
            elsewhere,
        )];
    }
    if let Err(error) = access(existing, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
        let text = format!(
            "{} can't be written: {}; reads would bypass the cache",
            existing.display(),
            error.desc()
        );
        return vec![Finding::bad(
            SUBJECT,
            text,
            format!("change its owner or permissions, or {elsewhere}"),
        )];
    }
    let state = if existing == cache_dir { "" } else { ", not made yet" };
    let space = match statvfs(existing) {
        Ok(found) => {
            let free = found.blocks_available() * found.fragment_size();
            let text = format!("{} are free there", ByteSize(free));
            if free < LITTLE_SPACE {
                Finding::note(
                    "space",
                    text,
                    format!("free some, or {elsewhere}; a mount works with less, and fetches more"),
                )
            } else {
                Finding::good("space", text)
            }
        }
        Err(error) => Finding::bad("space", format!("it is unknown: {}", error.desc()), elsewhere),
    };
    vec![Finding::good(SUBJECT, format!("{shown}{state}")), space]
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn kernel_release_has_two_numbers() {
        assert_eq!(version("6.12.8-amd64"), (6, 12));
        assert_eq!(version("6.9"), (6, 9));
        assert_eq!(version("5.10.0-32-cloud"), (5, 10));
        assert!(version("10.0.1") >= PASSTHROUGH_SINCE);
        assert!(version("") < PASSTHROUGH_SINCE);
    }

    #[test]
    fn cache_directory_is_judged_before_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let states = |path: &Path| {
            let findings = cache_directory(path, true);
            findings.iter().map(|finding| finding.state).collect::<Vec<_>>()
        };
        assert_ne!(states(&dir.path().join("a/b"))[0], State::Bad);
        assert!(!dir.path().join("a").exists());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(states(&file.join("cache")), [State::Bad]);
    }
}
