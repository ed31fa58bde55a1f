//! Why a configuration can't be used.

use super::file::FileError;
use super::network::NetworkError;
use super::paths::PathError;
use super::s3::S3Error;
use super::source::{self, InvalidSource};
use super::web::WebError;

/// Why the arguments can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A source is invalid.
    #[error(transparent)]
    Source(#[from] InvalidSource),
    /// There is a source or a mountpoint, but not both.
    #[error("{}", one_of_two(.0))]
    OneOfTwo(String),
    /// The mountpoint is a URL.
    #[error("the mountpoint comes last: fetchfs mount {0} DIRECTORY")]
    UrlLast(String),
    /// A library beside other sources.
    #[error("a library is mounted alone; write the other sources into its file, each below a [[source]]")]
    LibraryAmongOthers,
    /// The config file or a library's file can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The options about servers contradict each other, or a file that they name can't be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The options about S3 can't be used.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The options of the status page contradict each other, or its token can't be used.
    #[error(transparent)]
    Web(#[from] WebError),
    /// Options of different origins contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// A path can't be resolved.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl ConfigError {
    /// Returns true if the command line is wrong, false if the machine is not ready for it.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Source(error) => error.is_usage(),
            Self::OneOfTwo(_) | Self::UrlLast(_) | Self::LibraryAmongOthers | Self::S3(_) | Self::Conflict(_) => true,
            Self::Network(error) => error.is_usage(),
            Self::Web(error) => error.is_usage(),
            Self::File(error) => error.is_usage(),
            Self::Path(_) => false,
        }
    }
}

/// The message for a single argument, by its form.
fn one_of_two(argument: &str) -> String {
    let is_stdin = argument == "-";
    let argument = match is_stdin {
        true => "-".to_owned(),
        false => source::name(argument),
    };
    if is_stdin || argument.contains("://") || argument.starts_with('@') {
        format!("where should {argument} be mounted? Name an empty directory: fetchfs mount {argument} DIRECTORY")
    } else {
        format!("what should be mounted on {argument}? Name a source first: fetchfs mount https://HOST/PATH {argument}")
    }
}
