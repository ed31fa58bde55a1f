//! `fetchfs get` and `fetchfs set`: the options of a running mount.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::support::scrub_argv::hide_secrets;
use crate::cli::support::{output, targets};
use crate::config::absolute_assignment;
use crate::control::protocol::{OptionShown, Reply, Request};

/// Show the options of a mount and where each comes from
///
/// Origins, the strongest first: `set` (by `fetchfs set`), flag, -o, environment, library, config file, default. Secrets
/// are not shown.
#[derive(Args)]
struct GetArgs {
    /// The mount
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,

    /// Print only the value of this option
    #[arg(value_name = "KEY")]
    key: Option<String>,

    /// Print a JSON array with one object per option
    #[arg(long)]
    json: bool,
}

/// Change options of a mount while it is used
///
/// Options that can change: attr_ttl, bearer_token_file, bwlimit, cache_size, max_connections, min_free, netrc_file,
/// offline, password_file, read_ahead and verbose. Their values are those of the flags of the same name; true or false
/// for `offline`, a number for `verbose`. A file is read again when it is set, also to the same path. Several options
/// change together or not at all. They hold until the end of the mount.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fetchfs set /mnt/pub bwlimit=2MB cache_size=20GiB
  fetchfs set /mnt/pub bwlimit=08:00-18:00=2MB,else=off
  fetchfs set /mnt/pub offline=true")]
struct SetArgs {
    /// The mount
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,

    /// An option and its new value
    #[arg(value_name = "KEY=VALUE", required = true)]
    assignments: Vec<String>,
}

pub(in crate::cli) fn get_command() -> Command {
    GetArgs::augment_args(Command::new("get"))
}

pub(in crate::cli) fn set_command() -> Command {
    SetArgs::augment_args(Command::new("set"))
}

pub(in crate::cli) fn run_get(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = GetArgs::from_arg_matches(matches)?;
    let is_one = args.key.is_some();
    let options = ask(args.mountpoint, &Request::GetOptions { key: args.key })?;
    if args.json {
        return output::json(&options);
    }
    if is_one {
        return options
            .iter()
            .try_for_each(|option| output::line(option.value.as_deref().unwrap_or_default()));
    }
    output::write(table(&options))
}

pub(in crate::cli) fn run_set(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = SetArgs::from_arg_matches(matches)?;
    hide_secrets();
    let assignments = args.assignments.iter().map(|text| absolute_assignment(text)).collect();
    let options = ask(args.mountpoint, &Request::SetOptions { assignments })?;
    targets::warn_of_notes(&options);
    Ok(())
}

fn ask(mountpoint: PathBuf, request: &Request) -> anyhow::Result<Vec<OptionShown>> {
    let mount = targets::the_mount(&[mountpoint])?;
    match targets::ask_once(&mount, request)? {
        Reply::Options { options } => Ok(options),
        _ => Err(targets::unexpected(&mount)),
    }
}

/// A line for each option: its name, its value and its origin, in columns.
fn table(options: &[OptionShown]) -> String {
    let value = |option: &OptionShown| option.value.clone().unwrap_or_else(|| "-".to_owned());
    let longest = |of: &dyn Fn(&OptionShown) -> usize, most: usize| {
        let lengths = options.iter().map(of).filter(|length| *length <= most);
        lengths.max().unwrap_or(0)
    };
    let (keys, values) = (
        longest(&|option| option.key.len(), MOST_KEY),
        longest(&|option| value(option).chars().count(), MOST_VALUE),
    );
    let line = |option: &OptionShown| {
        let origin = match option.from.as_str() {
            "mount_option" => "-o".to_owned(),
            from => from.replace('_', " "),
        };
        let place = option.place.as_ref().map_or(String::new(), |place| format!(" {place}"));
        format!("{:keys$}  {:values$}  {origin}{place}\n", option.key, value(option))
    };
    options.iter().map(line).collect()
}

/// Longer names and values do not widen the columns.
const MOST_KEY: usize = 24;
const MOST_VALUE: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_in_columns() {
        let option = |key: &str, value: Option<&str>, from: &str, place: Option<&str>| OptionShown {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            from: from.to_owned(),
            place: place.map(str::to_owned),
            can_change: true,
            note: None,
        };
        let options = [
            option("allow_other", Some("true"), "mount_option", None),
            option("bwlimit", Some("2MB"), "set", None),
            option(
                "cache_size",
                Some("20GiB"),
                "config_file",
                Some("/etc/fetchfs/config:3"),
            ),
            option("log_file", None, "default", None),
            option("retries", Some("5"), "environment", Some("FETCHFS_RETRIES")),
        ];
        insta::assert_snapshot!(table(&options), @r"
        allow_other  true   -o
        bwlimit      2MB    set
        cache_size   20GiB  config file /etc/fetchfs/config:3
        log_file     -      default
        retries      5      environment FETCHFS_RETRIES
        ");
    }
}
