//! Reads a config file as TOML.
//!
//! [`Kind`] says what type an option's value has. clap then checks the value. Its own error could not name the line in
//! the file.

use std::fmt::Display;
use std::ops::Range;

use clap::Command;
use clap::error::ErrorKind;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use url::Url;

use super::entry::{Entry, Fault, Place, section};
use super::kind::Kind;
use super::line;
use crate::config::options::{OPTIONS_ID, flag_named, nearest};

/// A reserved key, for a list of sources.
const RESERVED: &str = "source";

/// Reads a file, or one line of it. The entries for all sources come first, else in the order of the file.
pub(super) fn parse(command: &Command, text: &str) -> Result<Vec<Entry>, Fault> {
    let mut reader = Reader {
        command,
        text,
        entries: Vec::new(),
    };
    let table = DeTable::parse(text).map_err(|error| reader.syntax(&error))?;
    for (key, value) in in_order(table.get_ref()) {
        let name = key.get_ref().as_ref();
        match value.get_ref() {
            _ if name == RESERVED => {
                let sentence = "`source` is reserved; name sources on the command line: fetchfs mount SOURCE... \
                                MOUNTPOINT";
                return Err(reader.fault(key.span(), sentence));
            }
            DeValue::Table(options) if flag_named(command, &name.replace('_', "-")).is_none() => {
                let section = section(name).ok_or_else(|| {
                    let cure = "write [\"https://HOST/PATH/\"] for the sources at that URL and below it";
                    reader.fault(key.span(), format!("the name of a table is a URL; {cure}"))
                })?;
                for (key, value) in in_order(options) {
                    reader.option(key, value, Some(&section))?;
                }
            }
            _ => reader.option(key, value, None)?,
        }
    }
    let mut entries = reader.entries;
    entries.sort_by_key(|entry| entry.section.is_some());
    Ok(entries)
}

type Key<'i> = Spanned<DeString<'i>>;

/// The content of a table in the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Key<'i>, &'a Spanned<DeValue<'i>>)> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

struct Reader<'a> {
    command: &'a Command,
    text: &'a str,
    entries: Vec<Entry>,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn fault(&self, span: Range<usize>, sentence: impl Display) -> Fault {
        Fault {
            place: self.place(span.start),
            sentence: sentence.to_string(),
        }
    }

    /// The fault for a syntax error.
    fn syntax(&self, error: &toml::de::Error) -> Fault {
        let span = error.span().unwrap_or_default();
        let line = self
            .text
            .lines()
            .nth(self.place(span.start).line - 1)
            .unwrap_or_default();
        // Texts like "expected literal string" do not help users.
        let what = error.message().split(", expected ").next().unwrap_or_default();
        let cure = match line::suggestion(self.command, line) {
            Some(toml) => format!("write `{toml}`"),
            None if what == "duplicate key" => "delete one of the two".to_owned(),
            None => "write NAME = VALUE in TOML, with text in quotes".to_owned(),
        };
        self.fault(span, format!("{what}; {cure}"))
    }

    fn option(&mut self, key: &Key, value: &Spanned<DeValue>, section: Option<&Url>) -> Result<(), Fault> {
        let written = key.get_ref();
        let name = written.replace('_', "-");
        if matches!(name.as_str(), "config" | OPTIONS_ID) {
            let sentence = format!("`{written}` is only for the command line; remove it from the config file");
            return Err(self.fault(key.span(), sentence));
        }
        let Some(flag) = flag_named(self.command, &name) else {
            let cure = match nearest(self.command, &name) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "`fetchfs mount --help` lists the options".to_owned(),
            };
            return Err(self.fault(key.span(), format!("`{written}`: unknown option; {cure}")));
        };
        // TOML itself refuses a repeated key, but treats these two as different.
        let is_same = |entry: &&Entry| entry.section.as_ref() == section && entry.name == name;
        if let Some(earlier) = self.entries.iter().find(is_same) {
            let sentence = format!("`{written}` is also in line {}; delete one of them", earlier.place.line);
            return Err(self.fault(key.span(), sentence));
        }
        let kind = Kind::of(flag);
        let values = match value.get_ref() {
            DeValue::Array(values) if kind == Kind::Texts => values.iter().collect(),
            _ => vec![value],
        };
        for value in values {
            let (text, flags) = self.value(written, &name, kind, value)?;
            self.entries.push(Entry {
                place: self.place(value.span().start),
                section: section.cloned(),
                name: name.clone(),
                value: text,
                flags,
            });
        }
        Ok(())
    }

    /// One value, and its flags.
    fn value(
        &self,
        written: &str,
        name: &str,
        kind: Kind,
        value: &Spanned<DeValue>,
    ) -> Result<(String, Vec<String>), Fault> {
        let wrong = |sentence| Err(self.fault(value.span(), format!("`{written}`{sentence}")));
        let Some(text) = kind.text(value.get_ref()) else {
            let found = value.get_ref().type_str();
            let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
            return wrong(format!(" is {article} {found}; write {}", kind.expected()));
        };
        let flags = match kind {
            Kind::Switch if value.get_ref().as_bool() == Some(true) => vec![format!("--{name}")],
            Kind::Switch => Vec::new(),
            Kind::Count => match text.parse() {
                Ok(count @ 0..=9) => vec![format!("--{name}"); count],
                _ => return wrong(format!(" is out of range; write {}", kind.expected())),
            },
            _ if text.is_empty() => return wrong(format!(" is empty; write {}", kind.expected())),
            _ => vec![format!("--{name}={text}")],
        };
        match refusal(self.command, &flags) {
            Some(reason) => wrong(format!(": {reason}")),
            None => Ok((text, flags)),
        }
    }
}

/// Why clap refuses the value of an option; `None` if it accepts it.
fn refusal(command: &Command, flags: &[String]) -> Option<String> {
    let rest = ["http://host/", "/"].map(str::to_owned);
    let all = flags.iter().chain(&rest);
    let error = command.clone().no_binary_name(true).try_get_matches_from(all).err()?;
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    Some(reason.unwrap_or_else(|| "not a valid value".to_owned()))
}
