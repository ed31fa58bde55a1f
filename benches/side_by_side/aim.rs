//! Where the numbers must come out, and whether they do.

use super::sample::{Measure, digits};
use super::tool::Tool;

/// What fetchfs aims at on a line.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// No more than this.
    AtMost(Measure, f64),
    /// No less than this.
    AtLeast(Measure, f64),
    /// No less than this part of the limit.
    OfLimit(Measure, f64),
    /// No more than this multiple of the limit.
    WithinLimit(Measure, f64),
    /// No less than this multiple of what another tool has.
    OfTool(Measure, f64, Tool),
    /// In no more than this part of another tool's time: 10 times as fast is 10.
    Faster(f64, Tool),
}

/// What an aim is judged by.
pub struct Results<'a> {
    /// What a tool had.
    pub tool: &'a dyn Fn(Tool, Measure) -> Option<f64>,
    /// What the limit is.
    pub limit: Option<f64>,
}

impl Aim {
    /// As the table shows it.
    pub fn shown(self) -> String {
        match self {
            Aim::AtMost(Measure::Amplification, value) => format!("≤ × {value} sent"),
            Aim::AtMost(measure, value) => format!("≤ {}", plain(measure, value)),
            Aim::AtLeast(measure, value) => format!("≥ {}", plain(measure, value)),
            Aim::OfLimit(_, part) => format!("≥ {part} × limit"),
            Aim::WithinLimit(_, times) => format!("≤ {times} × limit"),
            Aim::OfTool(_, part, tool) => format!("≥ {part} × {}", tool.title()),
            Aim::Faster(times, tool) => format!("≥ {times} × as fast as {}", tool.title()),
        }
    }

    /// Whether it is met; `None` when what it is compared with was not measured.
    pub fn is_met(self, results: &Results<'_>) -> Option<bool> {
        let own = |measure| (results.tool)(Tool::Fetchfs, measure);
        Some(match self {
            Aim::AtMost(measure, value) => own(measure)? <= value,
            Aim::AtLeast(measure, value) => own(measure)? >= value,
            Aim::OfLimit(measure, part) => own(measure)? >= part * results.limit?,
            Aim::WithinLimit(measure, times) => own(measure)? <= times * results.limit?,
            Aim::OfTool(measure, part, tool) => own(measure)? >= part * (results.tool)(tool, measure)?,
            Aim::Faster(times, tool) => own(Measure::Duration)? * times <= (results.tool)(tool, Measure::Duration)?,
        })
    }
}

fn plain(measure: Measure, value: f64) -> String {
    let shown = measure.shown(value);
    // An aim is a round number: "50 ms", not "50.0 ms".
    shown.replacen(&digits(value), &value.to_string(), 1)
}
