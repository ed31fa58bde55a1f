//! What was measured, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::aim::Results;
use super::lines::{Limit, Line, Table};
use super::machine::Machine;
use super::origin::Profile;
use super::sample::{Measure, Runs, digits};
use super::tool::{ALL, Tool};

/// Where a table stands in a document.
const BEGIN: &str = "<!-- table: written by `make bench`, not by hand -->";
const END: &str = "<!-- end of the table -->";

/// A line with what was measured.
pub struct Row {
    /// The line.
    pub line: Line,
    /// What each tool had.
    pub tools: BTreeMap<Tool, Runs>,
    /// What the limit was.
    pub limit: Runs,
}

/// All that is reported.
pub struct Report {
    /// `full` or `quick`.
    pub sizes: &'static str,
    /// Where and when.
    pub machine: Machine,
    /// The tools' own words on their versions.
    pub versions: BTreeMap<Tool, String>,
    /// The rows so far.
    pub rows: Vec<Row>,
}

impl Row {
    /// The median of what a tool had.
    pub fn median(&self, tool: Tool, measure: Measure) -> Option<f64> {
        self.tools.get(&tool)?.median(measure)
    }

    /// The limit, in the line's first measure.
    fn limit(&self) -> Option<f64> {
        match self.line.limit {
            Limit::None => None,
            Limit::Known(value, _) => Some(value),
            Limit::Measured(..) => self.limit.median(self.line.shown[0]),
        }
    }

    /// How fetchfs stands to another value of the first measure: more than 1 is better.
    fn ratio(&self, to: Option<f64>) -> Option<f64> {
        let (measure, to) = (self.line.shown[0], to?);
        let own = self.median(Tool::Fetchfs, measure)?;
        Some(if measure.more_is_better() { own / to } else { to / own })
    }

    /// The better of the other tools' values of the first measure.
    fn best_peer(&self) -> Option<f64> {
        let measure = self.line.shown[0];
        let peers = ALL.into_iter().filter(|tool| *tool != Tool::Fetchfs);
        let values = peers.filter_map(|tool| self.median(tool, measure));
        if measure.more_is_better() {
            values.max_by(f64::total_cmp)
        } else {
            values.min_by(f64::total_cmp)
        }
    }

    fn cell(&self, tool: Tool) -> String {
        let Some(runs) = self.tools.get(&tool) else {
            return "–".to_owned();
        };
        let mut text: Vec<String> = Vec::new();
        let shown = self.line.shown.iter();
        text.extend(shown.filter_map(|&measure| Some(measure.shown(runs.median(measure)?))));
        text.extend(runs.failure().map(|failure| format!("failed: {}", failure.short)));
        text.join(", ")
    }

    fn limit_cell(&self) -> String {
        let (Limit::Known(_, why) | Limit::Measured(_, why)) = self.line.limit else {
            return "–".to_owned();
        };
        let shown = self
            .limit()
            .map_or_else(|| "?".to_owned(), |value| self.line.shown[0].shown(value));
        format!("{shown}: {why}")
    }

    /// The limit; how fetchfs stands to the better of the others, and to the limit; whether it is where it should be.
    fn judged_cells(&self) -> [String; 4] {
        let ratio = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), digits);
        [
            self.limit_cell(),
            ratio(self.ratio(self.best_peer())),
            ratio(self.ratio(self.limit())),
            self.aim_cell(),
        ]
    }

    /// What fetchfs aims at, and whether it gets there; `None` when that was not measured.
    fn verdicts(&self) -> impl Iterator<Item = (String, Option<bool>)> {
        self.line.aims.iter().map(|aim| {
            let results = Results {
                tool: &|tool, measure| self.median(tool, measure),
                limit: self.limit(),
            };
            (aim.shown(), aim.is_met(&results))
        })
    }

    fn aim_cell(&self) -> String {
        let aims = self.verdicts().map(|(aim, is_met)| {
            let verdict = match is_met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "not measured",
            };
            format!("{aim}: {verdict}")
        });
        aims.collect::<Vec<_>>().join("; ")
    }

    /// One line for who watches.
    pub fn progress(&self, tool: Tool) -> String {
        let runs = self.tools.get(&tool).map_or(0, Runs::len);
        let failure = self.tools.get(&tool).and_then(Runs::failure);
        let why = failure.map_or_else(String::new, |failure| format!("; {}", failure.long));
        format!(
            "{:<18} {:<13} {} (runs: {runs}{why})",
            self.line.id,
            tool.id(),
            self.cell(tool)
        )
    }
}

impl Report {
    /// The tables.
    pub fn markdown(&self) -> String {
        let mut text = self.machine.sentence(self.sizes) + "\n";
        let tools = self.versions.keys().copied().collect::<Vec<_>>();
        self.add_table(&mut text, Table::SideBySide, &tools);
        self.add_table(&mut text, Table::Growth, &[Tool::Fetchfs]);
        let versions = self.versions.iter().filter(|(tool, _)| **tool != Tool::RcloneTuned);
        let versions: Vec<&str> = versions.map(|(_, version)| version.as_str()).collect();
        let _ = writeln!(text, "\nVersions: {}.", versions.join(", "));
        text
    }

    fn add_table(&self, text: &mut String, table: Table, tools: &[Tool]) {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.line.table == table).collect();
        if rows.is_empty() {
            return;
        }
        let judged = ["limit", "× peer", "× limit", "aim"];
        let judged = if table == Table::SideBySide { &judged[..] } else { &[] };
        let titles: Vec<&str> = tools
            .iter()
            .map(|tool| tool.title())
            .chain(judged.iter().copied())
            .collect();
        let _ = writeln!(text, "\n| work | | {} |", titles.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(titles.len()));
        for row in rows {
            let profile = row.line.profile.map_or("", Profile::name);
            let mut cells: Vec<String> = tools.iter().map(|&tool| row.cell(tool)).collect();
            if table == Table::SideBySide {
                cells.extend(row.judged_cells());
            }
            let _ = writeln!(text, "| {} | {profile} | {} |", row.line.title, cells.join(" | "));
        }
    }

    /// Every value of every run.
    pub fn json(&self) -> String {
        let versions = self.versions.iter().map(|(tool, version)| (tool.id(), string(version)));
        let rows = self.rows.iter().map(|row| {
            let tools = row.tools.iter().map(|(tool, runs)| (tool.id(), runs_json(runs)));
            let number = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            let aims = row.verdicts().map(|(aim, is_met)| {
                let met = is_met.map_or_else(|| "null".to_owned(), |met| met.to_string());
                object([("aim", string(&aim)), ("met", met)])
            });
            object([
                ("id", string(&row.line.id)),
                ("title", string(&row.line.title)),
                ("profile", string(row.line.profile.map_or("", Profile::name))),
                ("first_measure", string(row.line.shown[0].id())),
                ("limit", number(row.limit())),
                ("ratio_to_best_peer", number(row.ratio(row.best_peer()))),
                ("ratio_to_limit", number(row.ratio(row.limit()))),
                ("tools", object(tools)),
                ("aims", format!("[{}]", aims.collect::<Vec<_>>().join(", "))),
            ])
        });
        let report = object([
            ("sizes", string(self.sizes)),
            ("machine", self.machine.json()),
            ("versions", object(versions)),
            ("lines", format!("[{}]", rows.collect::<Vec<_>>().join(",\n"))),
        ]);
        report + "\n"
    }

    /// Puts the table where it stands in a document.
    ///
    /// # Errors
    /// When the document has no place for it.
    pub fn update(&self, document: &Path) -> Result<()> {
        let text = fs::read_to_string(document)?;
        let missing = || format!("{} has no place for the table", document.display());
        let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
        let (_, after) = rest.split_once(END).with_context(missing)?;
        Ok(fs::write(
            document,
            format!("{before}{BEGIN}\n{}{END}{after}", self.markdown()),
        )?)
    }

    /// The lines on which fetchfs failed.
    pub fn failures(&self) -> Vec<&str> {
        let failed = |row: &&Row| {
            row.tools
                .get(&Tool::Fetchfs)
                .is_some_and(|runs| runs.failure().is_some())
        };
        self.rows
            .iter()
            .filter(failed)
            .map(|row| row.line.id.as_str())
            .collect()
    }
}

fn runs_json(runs: &Runs) -> String {
    let numbers = |measure| {
        let values: Vec<String> = runs.values(measure).iter().map(f64::to_string).collect();
        format!("[{}]", values.join(", "))
    };
    let values = runs
        .measures()
        .into_iter()
        .map(|measure| (measure.id(), numbers(measure)));
    let failure = runs.failure().map(|failure| ("failure", string(&failure.long)));
    object(values.chain(failure))
}

/// An object of members whose values are JSON already.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let members = members
        .into_iter()
        .map(|(name, value)| format!("{}: {value}", string(name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

/// A string with what RFC 8259 §7 wants escaped.
pub fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}
