//! Fenced blocks of a Markdown page, and what is checked of each.

use std::iter;

use crate::common::is_root;

/// Reasons for which a block is not run, as in `sh no-run=REASON`.
const REASONS: [(&str, &str); 6] = [
    (
        "build",
        "builds or measures the program, or installs it on this machine",
    ),
    ("systemd", "needs systemd as process 1"),
    ("engine", "needs a container engine, or a cluster"),
    ("screen", "needs a screen, or a person who looks at it"),
    ("account", "needs an account, or data, at a real service"),
    ("time", "depends on what happens at that moment"),
];

/// Info strings of blocks that have nothing to check: text of other programs, and drawings.
const UNCHECKED: [&str; 5] = ["text", "ini", "dockerfile", "yaml", "rust"];

/// What is checked of a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// `sh`: the script runs without an error. `sh as-root` is not run by tests of an ordinary user.
    Run,
    /// `sh each`: the same of each line by itself, because they are alternatives.
    Each,
    /// `console`: each line after `$` is run, and prints what is shown, but for numbers.
    Compare,
    /// `fstab`: mount(8) mounts each line.
    Fstab,
    /// `toml`: a library or a config file without a mistake.
    Toml,
    /// `json`: it is JSON.
    Json,
    /// Nothing.
    Nothing,
}

/// A block.
pub struct Block {
    /// Page and line, `docs/recipes.md:7`.
    pub place: String,
    /// What is checked.
    pub check: Check,
    /// Its lines.
    pub text: String,
}

/// The blocks of a page. Fails the test at an info string that means nothing.
pub fn in_page(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let place = format!("{page}:{}", number + 1);
        let check = check(info).unwrap_or_else(|| panic!("{place}: `{info}` says not what is to be checked"));
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        let text = body.map(|line| format!("{line}\n")).collect();
        blocks.push(Block { place, check, text });
    }
    blocks
}

fn check(info: &str) -> Option<Check> {
    let (kind, rest) = info.split_once(' ').unwrap_or((info, ""));
    let is_reason = |reason| REASONS.iter().any(|(known, _)| *known == reason);
    match (kind, rest) {
        ("sh" | "console", _) if rest.strip_prefix("no-run=").is_some_and(is_reason) => Some(Check::Nothing),
        ("sh", "") => Some(Check::Run),
        ("sh", "as-root") => Some(if is_root() { Check::Run } else { Check::Nothing }),
        ("sh", "each") => Some(Check::Each),
        ("console", "") => Some(Check::Compare),
        ("fstab", "") => Some(Check::Fstab),
        ("toml", "") => Some(Check::Toml),
        ("json", "") => Some(Check::Json),
        (kind, "" | "no_run") if UNCHECKED.contains(&kind) => Some(Check::Nothing),
        _ => None,
    }
}

/// Commands of a `console` block with what each prints.
pub fn transcript(text: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), String::new()));
        } else if let Some((_, output)) = commands.last_mut() {
            *output += line;
            output.push('\n');
        }
    }
    commands
}

/// Hosts of the URLs in a text; of a bucket those of two regions.
pub fn hosts(text: &str) -> impl Iterator<Item = String> {
    text.match_indices("://").flat_map(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let authority = rest
            .split(|c: char| c.is_whitespace() || "/\"'`".contains(c))
            .next()
            .unwrap_or("");
        let host = authority
            .rsplit('@')
            .next()
            .and_then(|host| host.split(':').next())
            .unwrap_or("");
        let is_name = host.starts_with(|c: char| c.is_ascii_lowercase())
            && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
        match host {
            _ if !is_name => Vec::new(),
            bucket if text[..at].ends_with("s3") => ["us-east-1", "eu-central-1"]
                .map(|region| format!("{bucket}.s3.{region}.amazonaws.com"))
                .into(),
            host => vec![host.to_owned()],
        }
    })
}

/// Targets of the links and pictures of a page.
pub fn links(text: &str) -> impl Iterator<Item = &str> {
    let marked = text.match_indices("](").map(|(at, mark)| (at + mark.len(), ')'));
    let pictures = ["src=\"", "srcset=\"", "href=\""].into_iter().flat_map(|mark| {
        let found = text.match_indices(mark);
        found.map(|(at, mark)| (at + mark.len(), '"'))
    });
    marked
        .chain(pictures)
        .filter_map(|(begin, end)| text[begin..].split(end).next())
}

/// Anchors of the headings of a page, as GitHub makes them.
pub fn anchors(text: &str) -> impl Iterator<Item = String> {
    let mut is_code = false;
    let headings = text.lines().filter_map(move |line| {
        is_code ^= line.starts_with("```");
        let is_heading = line.starts_with('#') && !is_code;
        is_heading.then(|| line.trim_start_matches('#').trim())
    });
    headings.map(|heading| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.flat_map(|c| iter::once(if c == ' ' { '-' } else { c.to_ascii_lowercase() }))
            .collect()
    })
}
