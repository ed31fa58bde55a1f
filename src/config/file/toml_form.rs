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

use super::entry::{Entry, Fault, Place, SourceTable, section};
use super::kind::Kind;
use super::line;
use crate::config::options::{OPTIONS_ID, flag_named, nearest};

/// The key of a library's sources.
const SOURCES: &str = "source";

/// What a file is for.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    /// A config file.
    Config,
    /// A library, whose sources have the options of this command.
    Library(&'a Command),
}

/// What a file has, and all mistakes in it.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The entries for all sources come first, else in the order of the file.
    pub(super) entries: Vec<Entry>,
    /// The sources of a library.
    pub(super) sources: Vec<SourceTable>,
    /// The mistakes, in the order of the file.
    pub(super) faults: Vec<Fault>,
}

/// Reads a file. `command` is `fetchfs mount`.
pub(super) fn read(command: &Command, text: &str, form: Form) -> Content {
    let mut reader = Reader {
        command,
        text,
        form,
        entries: Vec::new(),
        faults: Vec::new(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let fault = reader.syntax(error);
        // One mistake may make several errors.
        if !reader.faults.iter().any(|other| other.place.line == fault.place.line) {
            reader.faults.push(fault);
        }
    }
    let broken: Vec<usize> = reader.faults.iter().map(|fault| fault.place.line).collect();
    let is_broken = |reader: &Reader, key: &Key| broken.contains(&reader.place(key.span().start).line);
    let mut sources = Vec::new();
    for (key, value) in in_order(table.get_ref()) {
        let name = key.get_ref().as_ref();
        if is_broken(&reader, key) {
            continue;
        }
        match (value.get_ref(), form) {
            (DeValue::Array(tables), Form::Library(source)) if name == SOURCES => {
                for table in tables {
                    let place = reader.place(table.span().start);
                    let DeValue::Table(options) = table.get_ref() else {
                        reader.fail(
                            table.span(),
                            "a source is a table; write [[source]], and its options below",
                        );
                        continue;
                    };
                    let before = std::mem::take(&mut reader.entries);
                    reader.command = source;
                    for (key, value) in in_order(options) {
                        if !is_broken(&reader, key) {
                            reader.option(key, value, None);
                        }
                    }
                    reader.command = command;
                    let entries = std::mem::replace(&mut reader.entries, before);
                    sources.push(SourceTable { place, entries });
                }
            }
            (_, Form::Library(_)) if name == SOURCES => {
                reader.fail(key.span(), "write [[source]] before each source, with two brackets");
            }
            (_, Form::Config) if name == SOURCES => {
                let sentence = "`source` is for libraries; give the file a name that ends in .toml and mount it: \
                                fetchfs mount FILE MOUNTPOINT";
                reader.fail(key.span(), sentence);
            }
            (DeValue::Table(_), Form::Library(_)) if flag_named(command, &name.replace('_', "-")).is_none() => {
                let sentence = "a library has no tables but [[source]], each with the options of a source";
                reader.fail(key.span(), sentence);
            }
            (DeValue::Table(options), Form::Config) if flag_named(command, &name.replace('_', "-")).is_none() => {
                let Some(section) = section(name) else {
                    let cure = "write [\"https://HOST/PATH/\"] for the sources at that URL and below it";
                    reader.fail(key.span(), format!("the name of a table is a URL; {cure}"));
                    continue;
                };
                for (key, value) in in_order(options) {
                    if !is_broken(&reader, key) {
                        reader.option(key, value, Some(&section));
                    }
                }
            }
            _ => reader.option(key, value, None),
        }
    }
    let Reader {
        mut entries,
        mut faults,
        ..
    } = reader;
    entries.sort_by_key(|entry| entry.section.is_some());
    faults.sort_by_key(|fault| (fault.place.line, fault.place.column));
    Content {
        entries,
        sources,
        faults,
    }
}

/// Returns true if a text has the key of a library's sources.
pub(super) fn has_sources(text: &str) -> bool {
    let (table, _) = DeTable::parse_recoverable(text);
    table.get_ref().keys().any(|key| key.get_ref().as_ref() == SOURCES)
}

/// Reads a config file, or one line of it.
///
/// # Errors
/// The first mistake.
pub(super) fn parse(command: &Command, text: &str) -> Result<Vec<Entry>, Fault> {
    let mut content = read(command, text, Form::Config);
    match content.faults.is_empty() {
        true => Ok(content.entries),
        false => Err(content.faults.swap_remove(0)),
    }
}

type Key<'i> = Spanned<DeString<'i>>;

/// The content of a table in the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Key<'i>, &'a Spanned<DeValue<'i>>)> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    pairs
}

struct Reader<'a> {
    /// Its flags are the options that may stand here.
    command: &'a Command,
    text: &'a str,
    form: Form<'a>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
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

    fn fail(&mut self, span: Range<usize>, sentence: impl Display) {
        let fault = self.fault(span, sentence);
        self.faults.push(fault);
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

    /// Reads an option. Its mistakes are added to the others.
    fn option(&mut self, key: &Key, value: &Spanned<DeValue>, section: Option<&Url>) {
        if let Err(fault) = self.try_option(key, value, section) {
            self.faults.push(fault);
        }
    }

    /// Why an option of this name can't stand here, if it may stand elsewhere in the file.
    fn belongs_elsewhere(&self, name: &str) -> Option<&'static str> {
        let Form::Library(source) = self.form else { return None };
        let is_in_source = std::ptr::eq(self.command, source);
        if !is_in_source && flag_named(source, name).is_some() {
            return Some("is for a source; write it below a [[source]]");
        }
        (is_in_source && flag_named(&super::mount_command(), name).is_some())
            .then_some("is for the whole mount; write it above the first [[source]]")
    }

    fn try_option(&mut self, key: &Key, value: &Spanned<DeValue>, section: Option<&Url>) -> Result<(), Fault> {
        let written = key.get_ref();
        let name = written.replace('_', "-");
        if matches!(name.as_str(), "config" | OPTIONS_ID) {
            let sentence = format!("`{written}` is only for the command line; remove it from the config file");
            return Err(self.fault(key.span(), sentence));
        }
        let Some(flag) = flag_named(self.command, &name) else {
            if let Some(why) = self.belongs_elsewhere(&name) {
                return Err(self.fault(key.span(), format!("`{written}` {why}")));
            }
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
    let has_positionals = command.get_positionals().next().is_some();
    let all = flags.iter().chain(rest.iter().filter(|_| has_positionals));
    let error = command.clone().no_binary_name(true).try_get_matches_from(all).err()?;
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    Some(reason.unwrap_or_else(|| "not a valid value".to_owned()))
}
