//! `-o a,b=c`: the options in the notation of mount(8) and /etc/fstab.
//!
//! An option names a long flag of `fetchfs mount`, with `_` or `-`: `cache_size=20G` is `--cache-size=20G`. The clap
//! command itself says which flags exist and take a value, so the two notations can't drift apart. The result is flags,
//! which [`crate::cli`] puts before the typed ones. So a flag wins over `-o`, which wins over the environment.
//!
//! A line in fstab may carry generic words besides. This module knows each of them and its effect.

#[cfg(test)]
mod page;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};

/// Prefix of environment variables: `--some-option` is this and `SOME_OPTION`.
const ENV_PREFIX: &str = "FETCHFS_";

/// The id of the argument for `-o`, which is not an option itself.
pub(super) const OPTIONS_ID: &str = "options";

/// An option that can't be accepted. The message is for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Neither a flag of fetchfs nor a word of mount(8).
    #[error("`-o {name}`: unknown option; {}", advice(nearest.as_deref()))]
    Unknown {
        /// The option as it was written.
        name: String,
        /// The option that was probably meant.
        nearest: Option<String>,
    },
    /// A flag without its mandatory value.
    #[error("`-o {name}`: a value is missing; write `-o {name}=<{value}>`")]
    ValueMissing {
        /// The option as it was written.
        name: String,
        /// The value's placeholder in the help text.
        value: String,
    },
    /// A switch with a value.
    #[error("`-o {0}=...`: takes no value; write `-o {0}`")]
    ValueUnwanted(String),
    /// A word of mount(8) or FUSE that fetchfs does not support.
    #[error("`-o {name}`: {reason}")]
    Refused {
        /// The option as it was written.
        name: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
}

fn advice(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `-o {nearest}`?"),
        None => "`fetchfs mount --help` lists the options".to_owned(),
    }
}

/// The effect of a word that is not a flag of fetchfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// None: it is so already, or it is for another program.
    None,
    /// None, which its author may not expect, so it is said.
    Warning,
    /// The mount is refused.
    Refusal,
    /// The options change a mount that exists.
    Remount,
}

/// Words with one effect, for one reason.
struct Words {
    effect: Effect,
    /// In the notation of fstab, with `_`.
    words: &'static [&'static str],
    why: &'static str,
}

/// The words of mount(8), fstab and libfuse. Those that begin with `x-` or `X-` have no effect either.
const WORDS: [Words; 15] = [
    Words {
        effect: Effect::None,
        // `user` may come as `user=NAME`.
        words: &[
            "defaults", "auto", "noauto", "nofail", "user", "nouser", "users", "nousers", "owner", "noowner", "group",
            "nogroup", "_netdev", "comment", "loud", "silent",
        ],
        why: "they are for mount(8), systemd and the boot scripts",
    },
    Words {
        effect: Effect::None,
        words: &["ro", "rw"],
        // mount(8) passes `rw` if `ro` is absent, so it can't be an error.
        why: "a mount is always read-only; mount(8) says `rw` whenever `ro` is absent",
    },
    Words {
        effect: Effect::None,
        words: &["suid", "nosuid", "dev", "nodev"],
        why: "a mount is always nosuid and nodev",
    },
    Words {
        effect: Effect::None,
        words: &[
            "sync",
            "async",
            "dirsync",
            "atime",
            "noatime",
            "diratime",
            "nodiratime",
            "relatime",
            "norelatime",
            "strictatime",
            "nostrictatime",
            "lazytime",
            "nolazytime",
            "mand",
            "nomand",
            "iversion",
            "noiversion",
        ],
        why: "without writes there is nothing to synchronise, and FUSE mounts have no access times of their own",
    },
    Words {
        effect: Effect::None,
        words: &["fsname", "subtype", "default_permissions"],
        why: "a mount is named after its source, without secrets, and the kernel always checks permissions",
    },
    Words {
        effect: Effect::Warning,
        words: &["kernel_cache", "auto_cache", "ac_attr_timeout", "direct_io"],
        why: "the kernel's pages are kept while a file's version stays the same",
    },
    Words {
        effect: Effect::Warning,
        words: &["attr_timeout", "entry_timeout", "negative_timeout"],
        why: "`attr_ttl` says how long names and attributes are used",
    },
    Words {
        effect: Effect::Warning,
        words: &["use_ino", "readdir_ino", "noforget", "hard_remove"],
        why: "inode numbers are always stable",
    },
    Words {
        effect: Effect::Warning,
        words: &[
            "max_read",
            "max_readahead",
            "large_read",
            "big_writes",
            "clone_fd",
            "max_background",
            "congestion_threshold",
            "max_idle_threads",
            "max_threads",
            "idle_threads",
            "intr",
            "no_remote_lock",
            "no_remote_flock",
            "no_remote_posix_lock",
            "splice_read",
            "splice_write",
            "splice_move",
            "async_read",
            "sync_read",
            "blkdev",
            "blksize",
        ],
        why: "fetchfs chooses it",
    },
    Words {
        effect: Effect::Warning,
        words: &["auto_unmount"],
        why: "after a crash `fetchfs mount` or `fetchfs unmount` cleans up",
    },
    Words {
        effect: Effect::Refusal,
        words: &["context", "fscontext", "defcontext", "rootcontext", "seclabel"],
        why: "is not supported; set the label by a policy, for example with `semanage fcontext`",
    },
    Words {
        effect: Effect::Refusal,
        words: &["allow_root"],
        why: "is not supported; `allow_other` gives access to root and to all other users",
    },
    Words {
        effect: Effect::Refusal,
        words: &["nonempty"],
        why: "is not supported; a mount needs an empty directory, so that it hides nothing",
    },
    Words {
        effect: Effect::None,
        // The mount table has them, and mount(8) passes what it has there at a remount.
        words: &["user_id", "group_id"],
        why: "the kernel's own, in the mount table",
    },
    Words {
        effect: Effect::Remount,
        words: &["remount"],
        why: "changes options of a mount that can change while it is mounted; `rw` is refused then",
    },
];

/// The words of mount(8) and libfuse, as lists, and the effect of each list: for the manual.
pub(crate) fn words_of_mount() -> impl Iterator<Item = (String, String)> {
    WORDS.iter().map(|words| {
        let effect = match words.effect {
            Effect::None => format!("no effect: {}", words.why),
            Effect::Warning => format!("no effect, with a warning: {}", words.why),
            Effect::Refusal | Effect::Remount => words.why.to_owned(),
        };
        (words.words.join(", "), effect)
    })
}

/// The effect of a word, and why, for a name with `_`.
fn effect_of(name: &str) -> Option<(Effect, &'static str)> {
    if name.starts_with("x-") || name.starts_with("X-") {
        return Some((Effect::None, "they are for other programs"));
    }
    let found = WORDS.iter().find(|words| words.words.contains(&name))?;
    Some((found.effect, found.why))
}

/// The meaning of a value of `-o`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Arguments of `fetchfs mount`.
    pub flags: Vec<String>,
    /// One sentence for each word that has no effect, although its author may expect one.
    pub ignored: Vec<String>,
    /// Whether a mount that exists is to be changed.
    pub remounts: bool,
}

/// Turns the values of `-o` into arguments of `command`, which is `fetchfs mount`.
///
/// # Errors
/// The first option that can't be accepted.
pub fn expand(command: &Command, options: &str) -> Result<Expanded, OptionError> {
    let mut expanded = Expanded::default();
    let mut is_writable = false;
    for option in split(options).iter().filter(|option| !option.is_empty()) {
        match one(command, option)? {
            Meaning::Flag(flag) => expanded.flags.push(flag),
            Meaning::Nothing => is_writable |= option == "rw",
            Meaning::Remount => expanded.remounts = true,
            Meaning::Ignored(why) => {
                let name = option.split('=').next().unwrap_or(option);
                expanded.ignored.push(format!("`-o {name}` has no effect: {why}"));
            }
        }
    }
    if expanded.remounts && is_writable {
        return Err(OptionError::Refused {
            name: "rw".to_owned(),
            reason: "a mount is always read-only; leave it out",
        });
    }
    Ok(expanded)
}

/// The meaning of one option.
enum Meaning {
    Flag(String),
    Nothing,
    Remount,
    Ignored(&'static str),
}

/// The option of this name (with `-`), if it may be set in another way than as a flag.
pub(super) fn flag_named<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut arguments = command.get_arguments();
    arguments.find(|arg| arg.get_long() == Some(name) && arg.get_id() != OPTIONS_ID)
}

/// The option that clap would suggest for a mistyped name, with `_`. `None` if none is like it.
pub(super) fn nearest(command: &Command, name: &str) -> Option<String> {
    let typed = [format!("--{name}")];
    let error = command.clone().no_binary_name(true).try_get_matches_from(typed).err()?;
    let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg) else {
        return None;
    };
    let name = flag.strip_prefix("--")?;
    let is_possible = name != "config" && flag_named(command, name).is_some();
    is_possible.then(|| name.replace('-', "_"))
}

/// The environment variable of an option, which is named without leading dashes.
pub(crate) fn variable_of(long: &str) -> String {
    format!("{ENV_PREFIX}{}", long.to_ascii_uppercase().replace('-', "_"))
}

/// Returns true if a variable was probably meant for an option: the `_` are elsewhere, or one letter in four is wrong at
/// most. Scripts and tests have variables of their own.
fn is_mistyped(variable: &str, option: &str) -> bool {
    let letters = |name: &str| name.strip_prefix(ENV_PREFIX).unwrap_or(name).replace('_', "");
    let (typed, meant) = (letters(variable), letters(option));
    strsim::osa_distance(&typed, &meant) <= typed.len() / 4
}

/// One sentence for each variable that looks like an option of fetchfs and is none: mistyped.
pub(crate) fn unknown_variables(
    command: &Command,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(Arg::get_long)
        .map(variable_of)
        .collect();
    let names = variables.filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter(|name| name.starts_with(ENV_PREFIX) && !known.contains(name));
    let told = unknown.filter_map(|variable| {
        let meant = known.iter().find(|option| is_mistyped(&variable, option))?;
        Some(format!(
            "{variable} in the environment has no effect: it is no option; did you mean {meant}?"
        ))
    });
    told.collect()
}

/// Returns true if the option may be given several times, with a value each.
pub(super) fn adds_up(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Append)
}

fn one(command: &Command, option: &str) -> Result<Meaning, OptionError> {
    let (written, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let name = written.replace('_', "-");
    let Some(flag) = flag_named(command, &name) else {
        return match effect_of(&written.replace('-', "_")).or_else(|| effect_of(written)) {
            Some((Effect::None, _)) => Ok(Meaning::Nothing),
            Some((Effect::Remount, _)) => Ok(Meaning::Remount),
            Some((Effect::Warning, why)) => Ok(Meaning::Ignored(why)),
            Some((Effect::Refusal, reason)) => Err(OptionError::Refused {
                name: written.to_owned(),
                reason,
            }),
            None => Err(OptionError::Unknown {
                name: written.to_owned(),
                nearest: nearest(command, &name),
            }),
        };
    };
    match (flag.get_action().takes_values(), value) {
        (true, Some(value)) => Ok(Meaning::Flag(format!("--{name}={value}"))),
        (false, None) => Ok(Meaning::Flag(format!("--{name}"))),
        (false, Some(_)) => Err(OptionError::ValueUnwanted(written.to_owned())),
        (true, None) => {
            let value = flag
                .get_value_names()
                .and_then(|names| names.first())
                .map_or("VALUE", |name| name.as_str());
            Err(OptionError::ValueMissing {
                name: written.to_owned(),
                value: value.to_owned(),
            })
        }
    }
}

/// Splits at commas. `\,` is a comma in a value, `\\` a backslash; a backslash before any other character is literal.
fn split(options: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = options.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.last_mut().expect("one part from the start");
        match c {
            ',' => parts.push(String::new()),
            '\\' => last.push(chars.next_if(|&next| next == ',' || next == '\\').unwrap_or('\\')),
            c => last.push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::mount_command;
    use proptest::prelude::*;

    fn arguments(options: &str) -> Result<Vec<String>, OptionError> {
        expand(&mount_command(), options).map(|expanded| expanded.flags)
    }

    #[test]
    fn words_of_libfuse_are_ignored_with_a_sentence() {
        let expanded = expand(&mount_command(), "kernel_cache,attr_timeout=3,umask=077").unwrap();
        assert_eq!(expanded.flags, ["--umask=077"]);
        assert_eq!(
            expanded.ignored,
            [
                "`-o kernel_cache` has no effect: the kernel's pages are kept while a file's version stays the same",
                "`-o attr_timeout` has no effect: `attr_ttl` says how long names and attributes are used",
            ]
        );
    }

    #[test]
    fn an_option_is_the_flag_of_the_same_name() {
        let expected = ["--cache-size=20G", "--allow-other", "--cache-dir=/a,b", "--umask=077"];
        let written = r"cache_size=20G,allow_other,_netdev,cache-dir=/a\,b,umask=077";
        assert_eq!(arguments(written).unwrap(), expected);
    }

    #[test]
    fn fstab_options_have_no_effect() {
        let fstab = "rw,ro,defaults,noauto,nofail,users,user=ann,_netdev,nosuid,nodev,relatime,lazytime,sync,,\
                     x-systemd.automount,x-gvfs-show,comment=films,fsname=x,subtype=y,default_permissions";
        assert_eq!(arguments(fstab).unwrap(), [""; 0]);
    }

    #[test]
    fn remount_is_no_flag_and_refuses_rw() {
        // What mount(8) passes for `-o remount,bwlimit=1MB`.
        let merged = "ro,nosuid,nodev,relatime,remount,user_id=0,group_id=0,default_permissions,bwlimit=1MB";
        let expanded = expand(&mount_command(), merged).unwrap();
        assert!(expanded.remounts);
        assert_eq!(expanded.flags, ["--bwlimit=1MB"]);
        let refused = expand(&mount_command(), "rw,remount").unwrap_err().to_string();
        insta::assert_snapshot!(refused, @"`-o rw`: a mount is always read-only; leave it out");
        assert!(!expand(&mount_command(), "rw").unwrap().remounts);
    }

    #[test]
    fn variable_that_is_no_option_is_named() {
        let mistyped = ["FETCHFS_CACHESIZE", "FETCHFS_CACHE_SIZE", "FETCHFS_BWLIMITT", "HOME"];
        let of_scripts = ["FETCHFS_LOG", "FETCHFS_BIN", "FETCHFS_DEMO_DIR", "FETCHFS_CRASH_ROUNDS"];
        let variables = mistyped.into_iter().chain(of_scripts);
        let variables = variables.map(|name| (name.into(), "1".into()));
        assert_eq!(
            unknown_variables(&mount_command(), variables),
            [
                "FETCHFS_CACHESIZE in the environment has no effect: it is no option; did you mean FETCHFS_CACHE_SIZE?",
                "FETCHFS_BWLIMITT in the environment has no effect: it is no option; did you mean FETCHFS_BWLIMIT?",
            ]
        );
    }

    #[test]
    fn option_error_is_one_sentence() {
        let sentence = |options| arguments(options).unwrap_err().to_string();
        insta::assert_snapshot!(sentence("allow_other,cash_size=1G"), @"`-o cash_size`: unknown option; did you mean `-o cache_size`?");
        insta::assert_snapshot!(sentence("cache_size"), @"`-o cache_size`: a value is missing; write `-o cache_size=<SIZE>`");
        insta::assert_snapshot!(sentence("allow_other=1"), @"`-o allow_other=...`: takes no value; write `-o allow_other`");
        insta::assert_snapshot!(sentence("allow_root"), @"`-o allow_root`: is not supported; `allow_other` gives access to root and to all other users");
        insta::assert_snapshot!(sentence("options=a"), @"`-o options`: unknown option; `fetchfs mount --help` lists the options");
        insta::assert_snapshot!(sentence("help"), @"`-o help`: unknown option; `fetchfs mount --help` lists the options");
    }

    proptest! {
        #[test]
        fn escaped_values_round_trip(value in ".{0,20}") {
            let written = value.replace('\\', r"\\").replace(',', r"\,");
            prop_assert_eq!(arguments(&format!("log_file={written},ro")).unwrap(), [format!("--log-file={value}")]);
        }

        #[test]
        fn nothing_that_can_be_typed_panics(options in "[a-z_=,\\\\é -]{0,30}") {
            let _ = arguments(&options);
        }
    }
}
