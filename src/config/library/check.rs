//! `fetchfs config check`: what a file is, or all mistakes in it.

use std::path::Path;

use super::file::LibraryFile;
use crate::config::args::mount_command;
use crate::config::file::{ConfigFile, FileError, is_of_a_library};
use crate::config::options::variable_of;
use crate::http::redact;
use crate::source::library::MemberConfig;

/// What a file is that has no mistake.
pub(crate) enum Checked {
    /// A config file.
    Config {
        /// The number of options.
        options: usize,
    },
    /// A library.
    Library {
        /// The place and the URL of each source, without secrets.
        sources: Vec<(String, String)>,
    },
}

/// Checks a library's file or a config file.
///
/// # Errors
/// All mistakes in it, or why it can't be read.
pub(crate) fn check_config(path: &Path) -> Result<Checked, FileError> {
    let command = mount_command();
    if !is_of_a_library(path) {
        let file = ConfigFile::read(Some(path), &command)?;
        let options = file.entries.len();
        return Ok(Checked::Config { options });
    }
    let named = std::env::var_os(variable_of("config")).filter(|name| !name.is_empty());
    let config_file = ConfigFile::read(named.as_deref().map(Path::new), &command)?;
    let given = command
        .no_binary_name(true)
        .try_get_matches_from([path.as_os_str(), "/".as_ref()]);
    let file = LibraryFile::at(
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        // Only the environment can be wrong, which has nothing to do with the file.
        given.unwrap_or_default(),
        config_file,
    );
    let sources = file.load()?.members.into_iter();
    Ok(Checked::Library {
        sources: sources
            .map(|member| (shown(&member), redact(&member.spec.url).into()))
            .collect(),
    })
}

/// The path of a source's place, without `/` at both ends.
fn shown(member: &MemberConfig) -> String {
    let names = member.at.iter().map(|name| name.as_os_str().to_string_lossy());
    names.collect::<Vec<_>>().join("/")
}
