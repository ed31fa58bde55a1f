//! What is wrong with the options about servers.

use std::path::PathBuf;

use crate::config::paths::PathError;
use crate::http::{CookieError, NetrcError};

/// What is wrong with the options about servers. Contains no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// A file can't be read.
    #[error("can't read {option} {}: {error}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A command that should print the password did not.
    #[error("--password-command: {0}; run it in a shell to see why")]
    Command(String),
    /// A netrc file is malformed.
    #[error("{} is not a netrc file: {error}", path.display())]
    Netrc {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: NetrcError,
    },
    /// A cookie file is malformed.
    #[error("{} is not a cookie file: {error}", path.display())]
    Cookies {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: CookieError,
    },
    /// A header is malformed.
    #[error("--header: not a header; write `NAME: VALUE`, or @FILE with one in each line")]
    Header,
    /// A header that fetchfs sets itself.
    #[error("--header: `{0}` is set by fetchfs and can't be overridden")]
    OwnHeader(String),
    /// The User-Agent has invalid characters.
    #[error("--user-agent: has a character that is not allowed in a header")]
    UserAgent,
    /// Credentials would go to nodes that DNS names.
    #[error(
        "--tier-private: `{0}` would let DNS say which machine gets the credentials; name the nodes by their URLs in --tier"
    )]
    PrivateTierOfName(String),
    /// A password without a user.
    #[error(
        "--password-file, --password-command: the user name is missing; give it with --login, or in the URL: https://USER@HOST/"
    )]
    NoUser,
    /// A user without a password.
    #[error("--login: the password is missing; give a --password-file or --password-command, or write NAME:PASSWORD")]
    NoPassword,
    /// A mirror that is not an http(s) URL. Without secrets.
    #[error("--mirror: `{0}` is not a URL that begins with http:// or https://")]
    NoMirror(String),
    /// A mirror's URL with a user.
    #[error("--mirror: {0}: credentials are never sent to a mirror; write its URL without a user")]
    MirrorLogin(String),
    /// A mirror for several sources.
    #[error("--mirror needs exactly one source, but there are {0}; mount them separately")]
    MirrorOfSeveral(usize),
    /// One secret for several servers.
    #[error(
        "{option} is for one server, but the sources are on {first} and {second}; mount them separately, or use \
         --netrc-file"
    )]
    SeveralServers {
        /// The option.
        option: &'static str,
        /// A server.
        first: String,
        /// Another one.
        second: String,
    },
    /// A path can't be resolved.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl NetworkError {
    /// Returns true if the command line is wrong, false if a file is.
    pub(crate) fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::File { .. } | Self::Command(_) | Self::Netrc { .. } | Self::Cookies { .. } | Self::Path(_)
        )
    }
}
