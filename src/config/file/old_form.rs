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

use super::entry::{Entry, Fault, Place, section};
use super::line::{Line, split, translation};
use super::toml_form;

/// Reads a file: its entries, and a sentence for the user about its form. `None` if it is not in the old form.
pub(super) fn parse(command: &Command, text: &str) -> Option<(Result<Vec<Entry>, Fault>, String)> {
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
    Some((translate(command, &lines), warning))
}

/// Returns true for a value that means something else in the old form than in TOML.
fn is_toml_alone(value: &DeValue) -> bool {
    matches!(value, DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_))
}

fn translate(command: &Command, lines: &[(usize, Line)]) -> Result<Vec<Entry>, Fault> {
    let mut section = None;
    let mut entries = Vec::new();
    for (number, line) in lines {
        if let Line::Section(url) = line {
            section = self::section(url);
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
