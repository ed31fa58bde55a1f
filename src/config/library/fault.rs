//! Mistakes in a library's file: their places, and their sentences in the words of the file.

use crate::config::file::{Fault, Place, SourceTable};

pub(super) fn fault(place: Place, sentence: impl Into<String>) -> Fault {
    Fault {
        place,
        sentence: sentence.into(),
    }
}

/// The place of an option in a table; of the table without it.
pub(super) fn place_of(table: &SourceTable, name: &str) -> Place {
    let entry = table.entries.iter().find(|entry| entry.name == name);
    entry.map_or(table.place, |entry| entry.place)
}

/// The mistake of the option that a message names.
pub(super) fn of_option(table: &SourceTable, message: &str) -> Fault {
    let named = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let mut named = named.filter_map(|word| word.strip_prefix("--"));
    let place = named.find_map(|name| table.entries.iter().find(|entry| entry.name == name));
    fault(place.map_or(table.place, |entry| entry.place), as_written(message))
}

/// A message about flags as one about options in the file: `--ca-cert` is `ca_cert`.
pub(super) fn as_written(message: &str) -> String {
    let mut text = String::new();
    for (index, part) in message.split("--").enumerate() {
        if index == 0 {
            text.push_str(part);
            continue;
        }
        let end = part
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(part.len());
        text.push_str(&written(&part[..end]));
        text.push_str(&part[end..]);
    }
    text
}

pub(super) fn written(name: &str) -> String {
    name.replace('-', "_")
}
