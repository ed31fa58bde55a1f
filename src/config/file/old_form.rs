//! Reads the config files of earlier versions.
//!
//! Their lines are `name = value` with unquoted values, `name` alone for a switch, and `[https://HOST/PATH/]` before
//! the lines for these sources. Each line is translated to TOML and read as such, so that there is one set of checks. A
//! file is in the old form if all of this is true:
//!
//! - It is not TOML.
//! - Each of its lines can be read in the old form.
//! - No line has a TOML string, array or table.

use clap::Command;
use toml::de::{DeTable, DeValue};

use super::super::options::flag_named;
use super::toml_form::{self, Kind};
use super::{ConfigFile, Fault, Place, is_secret};

/// A line in the old form.
enum Line<'a> {
    Section(&'a str),
    Option(&'a str, Option<&'a str>),
}

/// Reads a file; `None` if it is not in the old form.
pub(super) fn parse(command: &Command, text: &str) -> Option<Result<ConfigFile, Fault>> {
    if DeTable::parse(text).is_ok() {
        return None;
    }
    let mut lines = Vec::new();
    let mut example = None;
    for (number, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = split(text)?;
        match DeTable::parse(text) {
            Ok(table) if table.get_ref().values().any(|value| is_toml_alone(value.get_ref())) => return None,
            Ok(_) => {}
            Err(_) => {
                example.get_or_insert((number, translation(command, &line, true)));
            }
        }
        lines.push((number, line));
    }
    // Without such a line, each single line is TOML. Together they are not, because a name occurs twice.
    let (number, example) = example?;
    let warning = format!(
        "{number}: this config file is in the form of earlier versions, which is still read; rewrite it in TOML, this line as `{example}`"
    );
    Some(translate(command, &lines).map(|entries| ConfigFile {
        entries,
        warning: Some(warning),
    }))
}

/// Returns true for a value that means something else in the old form than in TOML.
fn is_toml_alone(value: &DeValue) -> bool {
    matches!(value, DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_))
}

fn split(text: &str) -> Option<Line<'_>> {
    if let Some(url) = text.strip_prefix('[') {
        let url = url.strip_suffix(']')?.trim();
        return toml_form::section(url).map(|_| Line::Section(url));
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
        None => (text, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (!name.is_empty() && name.chars().all(is_name)).then_some(Line::Option(name, value))
}

fn translate(command: &Command, lines: &[(usize, Line)]) -> Result<Vec<super::Entry>, Fault> {
    let mut section = None;
    let mut entries = Vec::new();
    for (number, line) in lines {
        if let Line::Section(url) = line {
            section = toml_form::section(url);
            continue;
        }
        let place = Place {
            line: *number,
            column: 1,
        };
        let read = toml_form::parse(command, &translation(command, line, false));
        for mut entry in read.map_err(|fault| Fault { place, ..fault })? {
            entry.place = place;
            entry.section.clone_from(&section);
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// A line as TOML. With `is_shown`, values that may be secret are omitted.
fn translation(command: &Command, line: &Line, is_shown: bool) -> String {
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
