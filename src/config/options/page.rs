//! docs/options.md, which is written from the table of options, so that it can't differ from the program.

use std::fmt::Write as _;
use std::fs;

use clap::{Arg, Command};

use super::{Effect, OPTIONS_ID, WORDS};
use crate::config::mount_command;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");

const HEAD: &str = "\
# Options

<!-- Written from the table of options in src/config by `UPDATE_DOCS=1 cargo test --lib options::page`. -->

All options of `fetchfs mount`. Each has four forms, and the earlier one wins:

| form | example |
|---|---|
| flag | `--cache-size 20GiB`, `--allow-other` |
| mount(8), fstab | `-o cache_size=20GiB,allow_other`; a comma in a value is written `\\,` |
| environment | `FETCHFS_CACHE_SIZE=20GiB`, `FETCHFS_ALLOW_OTHER=1` |
| config file, [TOML](https://toml.io) | `cache_size = \"20GiB\"`, `allow_other = true` in `~/.config/fetchfs/config` (`/etc/fetchfs/config` for root); `--config FILE` names another |

- Sizes: `20G` and `20GiB` are 20 × 2^30 bytes, `20GB` is 20 × 10^9, a plain number is bytes.
- Times: `500ms`, `30s`, `2m`, `1h`; a plain number is seconds.
- A name that is nearly right is an error that says which option was probably meant. A variable `FETCHFS_...` that is nearly an
  option is told, and has no effect.
- `fetchfs doctor` takes the same options. A [library](sources.md#libraries) has options for each of its sources.
";

const WORDS_HEAD: &str = "
## Words of mount(8) and libfuse

A line in `/etc/fstab`, or a habit from another file system, may have words after `-o` that are no options of fetchfs. All others are
errors.

| words | effect | because |
|---|---|---|
";

/// The headings of the help, in the order of the page, each with its options.
fn sections(command: &Command) -> Vec<(String, Vec<&Arg>)> {
    let mut sections: Vec<(String, Vec<&Arg>)> = Vec::new();
    for arg in command.get_arguments() {
        if arg.get_long().is_none() || arg.get_id() == OPTIONS_ID || arg.is_hide_set() {
            continue;
        }
        let heading = arg.get_help_heading().unwrap_or("General");
        match sections.iter_mut().find(|(name, _)| name == heading) {
            Some((_, args)) => args.push(arg),
            None => sections.push((heading.to_owned(), vec![arg])),
        }
    }
    sections
}

/// The option as a flag, with the name of its value.
fn flag(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let long = arg.get_long().unwrap_or_default();
    let value = match arg.get_value_names() {
        Some([name, ..]) if arg.get_action().takes_values() => format!(" {name}"),
        _ => String::new(),
    };
    format!("{short}--{long}{value}")
}

/// What clap says about it, as paragraphs of Markdown.
fn text(arg: &Arg) -> String {
    let long = arg
        .get_long_help()
        .or(arg.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut text = String::new();
    for paragraph in long.split("\n\n") {
        let mut line = paragraph.replace('\n', " ");
        if !line.ends_with(['.', ':', '?']) {
            line.push('.');
        }
        let _ = write!(text, "\n{}\n", line.replace('<', "\\<"));
    }
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, "\nDefault: `{}`.\n", defaults.join(" "));
    }
    text
}

fn page() -> String {
    let command = mount_command();
    let mut page = HEAD.to_owned();
    for (heading, args) in sections(&command) {
        let _ = write!(page, "\n## {heading}\n");
        for arg in args {
            let _ = write!(page, "\n### `{}`\n{}", flag(arg), text(arg));
        }
    }
    page.push_str(WORDS_HEAD);
    for words in WORDS {
        let effect = match words.effect {
            Effect::None => "none",
            Effect::Warning => "none, with a warning",
            Effect::Refusal => "refused",
            Effect::Remount => "done",
        };
        let names: Vec<String> = words.words.iter().map(|word| format!("`{word}`")).collect();
        let _ = writeln!(page, "| {} | {effect} | {} |", names.join(", "), words.why);
    }
    page.push_str("| `x-...`, `X-...` | none | they are for other programs |\n");
    page
}

#[test]
fn page_is_that_of_the_table() {
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    assert_eq!(
        fs::read_to_string(PAGE).unwrap(),
        page,
        "UPDATE_DOCS=1 writes docs/options.md anew"
    );
}
