//! The parts of a config file: one entry for each value, and the mistake that ends the reading.

use url::Url;

use crate::config::source;

/// The options whose values are secrets. As `-o` names and in config files they may be written with `_`.
pub(crate) const SECRETS: [&str; 5] = [
    "login",
    "header",
    "bearer-token",
    "bearer-token-command",
    "password-command",
];

/// A mistake in a config file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {sentence}", place.line, place.column)]
pub(crate) struct Fault {
    pub(in crate::config) place: Place,
    /// What is wrong, and what to do about it. **Without any value that may be a secret.**
    pub(in crate::config) sentence: String,
}

/// A place in a config file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Place {
    /// From 1.
    pub(in crate::config) line: usize,
    /// In characters, from 1.
    pub(in crate::config) column: usize,
}

/// One value of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Entry {
    pub(in crate::config) place: Place,
    /// The URL of the sources that it is for; `None` is all sources.
    pub(in crate::config) section: Option<Url>,
    /// The option's, with `-`.
    pub(in crate::config) name: String,
    /// In the notation of the command line; empty for a switch.
    pub(in crate::config) value: String,
    /// The same as flags; none for a switch that is off.
    pub(in crate::config) flags: Vec<String>,
}

impl Entry {
    /// Whether it is for some sources only.
    pub(in crate::config) fn is_for_some(&self) -> bool {
        self.section.is_some()
    }
}

/// One source of a library.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(in crate::config) struct SourceTable {
    /// The place of its first line.
    pub(in crate::config) place: Place,
    /// Its options.
    pub(in crate::config) entries: Vec<Entry>,
}

/// The URL of a section; `None` if invalid, or with a user, a password or a query: that would be a secret, and match no
/// source.
pub(super) fn section(name: &str) -> Option<Url> {
    let url = source::parse(name).ok()?.url;
    (url.username().is_empty() && url.password().is_none() && url.query().is_none()).then_some(url)
}

/// Returns true if the value of an option, which is named with `-`, is a secret.
pub(in crate::config) fn is_secret(name: &str, value: &str) -> bool {
    match name {
        // The secret is in another file then.
        "header" => !value.starts_with('@'),
        "login" => value.contains(':'),
        "proxy" => value.contains('@'),
        // A password in a source's URL.
        "url" => Url::parse(value).is_ok_and(|url| url.password().is_some()),
        name => SECRETS.contains(&name),
    }
}
