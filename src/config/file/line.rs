//! One line of a config file in the form of earlier versions, and the same line as TOML.

use clap::Command;
use toml::de::DeTable;

use super::entry::{is_secret, section};
use super::kind::Kind;
use crate::config::options::flag_named;

/// A line in the old form.
pub(super) enum Line<'a> {
    Section(&'a str),
    Option(&'a str, Option<&'a str>),
}

/// Reads a line; `None` if it is not in the old form.
pub(super) fn split(text: &str) -> Option<Line<'_>> {
    if let Some(url) = text.strip_prefix('[') {
        let url = url.strip_suffix(']')?.trim();
        return section(url).map(|_| Line::Section(url));
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
        None => (text, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (!name.is_empty() && name.chars().all(is_name)).then_some(Line::Option(name, value))
}

/// A line as TOML. With `is_shown`, values that may be secret are omitted.
pub(super) fn translation(command: &Command, line: &Line, is_shown: bool) -> String {
    let (name, value) = match line {
        Line::Section(url) => return format!("[{}]", quoted(url)),
        Line::Option(name, value) => (name, *value),
    };
    let option = name.replace('_', "-");
    let kind = flag_named(command, &option).map(Kind::of);
    let number = value.and_then(|value| value.parse::<u64>().ok());
    let value = match (kind, value, number) {
        (Some(Kind::Switch), None | Some("yes" | "true" | "on" | "1"), _) => "true".to_owned(),
        (Some(Kind::Switch), Some("no" | "false" | "off" | "0"), _) => "false".to_owned(),
        (Some(Kind::Count), None, _) => "1".to_owned(),
        (Some(Kind::Count | Kind::Integer), _, Some(number)) => number.to_string(),
        // The user and the query of a URL are secret too.
        (_, Some(value), _) if is_shown && (is_secret(&option, value) || value.contains(['@', '?'])) => quoted("..."),
        (_, value, _) => quoted(value.unwrap_or_default()),
    };
    format!("{name} = {value}")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The TOML for a line that is not TOML, if it is one in the old form: most often, quotes are missing.
pub(super) fn suggestion(command: &Command, text: &str) -> Option<String> {
    let text = text.trim();
    let line = split(text)?;
    if let Line::Option(name, value) = line {
        // Not for a quote or bracket that is never closed, or a comment: the meaning is unknown. Another name may be a
        // secret.
        let is_plain = !value.is_some_and(|value| value.contains(['"', '\'', '[', ']', '{', '}', '#']));
        flag_named(command, &name.replace('_', "-")).filter(|_| is_plain)?;
    }
    let is_toml = DeTable::parse(text).is_ok();
    (!is_toml).then(|| translation(command, &line, true))
}
