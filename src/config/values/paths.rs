//! Paths that depend on the caller: the home directory, the cache directory, and the base of relative paths.

use std::ffi::OsString;
use std::path::PathBuf;

use nix::unistd::{User, geteuid};

/// The cache of a mount that root makes (Filesystem Hierarchy Standard, 5.5).
const SYSTEM_CACHE: &str = "/var/cache/fetchfs";

/// The logs of mounts that root makes, where there is no system log (Filesystem Hierarchy Standard, 5.10).
const SYSTEM_LOGS: &str = "/var/log/fetchfs";

/// Why a path can't be resolved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    /// The caller has no home directory, and no option names the cache directory.
    #[error("no cache directory: HOME is not set; name a directory with --cache-dir")]
    NoHome,
    /// The working directory no longer exists, so a relative path means nothing.
    #[error("can't make `{}` absolute: {error}", path.display())]
    Relative {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

/// The cache directory: the named one, made absolute, or the default.
pub(in crate::config) fn cache_dir(named: Option<PathBuf>) -> Result<PathBuf, PathError> {
    match named {
        Some(dir) => absolute(dir),
        None => default_cache_dir().ok_or(PathError::NoHome),
    }
}

pub(in crate::config) fn absolute(path: PathBuf) -> Result<PathBuf, PathError> {
    std::path::absolute(&path).map_err(|error| PathError::Relative { path, error })
}

/// The caller's home directory. For an ordinary user, mount(8) clears the environment and thereby HOME; the user
/// database has the directory then.
pub(in crate::config) fn home() -> Option<PathBuf> {
    let by_environment = std::env::var_os("HOME").map(PathBuf::from);
    by_environment.or_else(|| Some(User::from_uid(geteuid()).ok()??.dir))
}

/// The default cache directory; `None` for a user without a home directory.
pub(crate) fn default_cache_dir() -> Option<PathBuf> {
    let home = home().map(PathBuf::into_os_string);
    cache_dir_for(geteuid().is_root(), std::env::var_os("XDG_CACHE_HOME"), home)
}

/// The directory for logs where there is no system log; `None` for a user without a home directory.
pub(crate) fn log_dir() -> Option<PathBuf> {
    let home = home().map(PathBuf::into_os_string);
    log_dir_for(geteuid().is_root(), std::env::var_os("XDG_STATE_HOME"), home)
}

fn log_dir_for(root: bool, xdg_state_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    match root {
        true => Some(SYSTEM_LOGS.into()),
        false => of_user(xdg_state_home, home, ".local/state"),
    }
}

/// The directory of fetchfs in the one that a variable names, else in `inside` of the home directory. The XDG Base
/// Directory Specification says to ignore a relative path in its variables.
fn of_user(variable: Option<OsString>, home: Option<OsString>, inside: &str) -> Option<PathBuf> {
    let given = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let dir = given(variable).or_else(|| given(home).map(|home| home.join(inside)))?;
    Some(dir.join("fetchfs"))
}

fn cache_dir_for(root: bool, xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(SYSTEM_CACHE.into());
    }
    of_user(xdg_cache_home, home, ".cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_goes_where_caches_go() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(
            cache_dir_for(true, some("/x"), some("/root")),
            Some("/var/cache/fetchfs".into())
        );
        assert_eq!(
            cache_dir_for(false, some("/x"), some("/home/a")),
            Some("/x/fetchfs".into())
        );
        assert_eq!(
            cache_dir_for(false, some("rel"), some("/home/a")),
            Some("/home/a/.cache/fetchfs".into())
        );
        assert_eq!(cache_dir_for(false, None, None), None);
    }

    #[test]
    fn logs_go_to_the_state_directory() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(
            log_dir_for(true, some("/x"), some("/root")),
            Some("/var/log/fetchfs".into())
        );
        assert_eq!(
            log_dir_for(false, None, some("/home/a")),
            Some("/home/a/.local/state/fetchfs".into())
        );
        assert_eq!(
            log_dir_for(false, some("/x"), some("/home/a")),
            Some("/x/fetchfs".into())
        );
    }
}
