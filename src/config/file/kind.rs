//! The type of an option's value in TOML. It follows from the option's action in the clap command and from the value's
//! placeholder in the help text, so a new option needs no line here.

use clap::{Arg, ArgAction};
use toml::de::{DeInteger, DeValue};

use crate::config::options::adds_up;

/// The type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A boolean.
    Switch,
    /// A boolean, as a value.
    Boolean,
    /// An integer: how often the flag is given.
    Count,
    /// An integer.
    Integer,
    /// A string with a unit, or an integer.
    Size,
    /// A string with a unit, or a number of seconds.
    Time,
    /// A string with a unit, or an integer.
    Rate,
    /// A string, or an integer.
    Account,
    /// A string of octal digits, or an octal integer.
    Octal,
    /// A string.
    Text,
    /// A string, or an array of them.
    Texts,
}

impl Kind {
    pub(super) fn of(flag: &Arg) -> Kind {
        match flag.get_action() {
            ArgAction::Count => return Kind::Count,
            action if !action.takes_values() => return Kind::Switch,
            _ => {}
        }
        let placeholder = flag.get_value_names().and_then(|names| names.first());
        match placeholder.map_or("", |name| name.as_str()) {
            "BOOL" => Kind::Boolean,
            "N" => Kind::Integer,
            "SIZE" => Kind::Size,
            "TIME" => Kind::Time,
            "RATE" => Kind::Rate,
            "USER" | "GROUP" => Kind::Account,
            "OCTAL" => Kind::Octal,
            _ if adds_up(flag) => Kind::Texts,
            _ => Kind::Text,
        }
    }

    /// The text after "write ".
    pub(super) fn expected(self) -> &'static str {
        match self {
            Kind::Switch | Kind::Boolean => "true or false",
            Kind::Count => "an integer from 0 to 9",
            Kind::Integer => "an integer",
            Kind::Size => "a size in quotes, for example \"20GiB\", or a number of bytes",
            Kind::Time => "a time in quotes, for example \"30s\", or a number of seconds",
            Kind::Rate => "a rate in quotes, for example \"10MB\", or a number of bytes per second",
            Kind::Account => "a name in quotes, or a number",
            Kind::Octal => "octal digits in quotes, for example \"0022\"",
            Kind::Text => "text in quotes",
            Kind::Texts => "text in quotes, or several in brackets: [\"...\", \"...\"]",
        }
    }

    /// The value in the notation of the command line; `None` if it has another type.
    pub(super) fn text(self, value: &DeValue) -> Option<String> {
        match (self, value) {
            (Kind::Switch, DeValue::Boolean(_)) => Some(String::new()),
            (Kind::Boolean, DeValue::Boolean(value)) => Some(value.to_string()),
            (Kind::Octal, DeValue::Integer(integer)) if integer.radix() == 8 => Some(integer.as_str().to_owned()),
            (
                Kind::Count | Kind::Integer | Kind::Size | Kind::Time | Kind::Rate | Kind::Account,
                DeValue::Integer(integer),
            ) => decimal(integer),
            (Kind::Time, DeValue::Float(float)) => Some(float.as_str().to_owned()),
            (Kind::Switch | Kind::Boolean | Kind::Count | Kind::Integer, _) => None,
            (_, DeValue::String(text)) => Some(text.clone().into_owned()),
            _ => None,
        }
    }
}

fn decimal(integer: &DeInteger) -> Option<String> {
    let value = i128::from_str_radix(integer.as_str(), integer.radix());
    Some(value.ok()?.to_string())
}
