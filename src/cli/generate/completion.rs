//! Completion scripts: clap's, which know commands and flags, and what is appended here.
//!
//! clap's lists lack what is no flag: the names after `-o`, the options of `fetchfs set`, and the mountpoints, which come
//! from the mount table at the moment. Its engine that asks the program at each Tab (`unstable-dynamic`) would have them,
//! but in bash, which splits words at `=` and `:`, it sees neither lists after `-o` nor URLs as one word. So each shell
//! gets some lines of its own instead, and the program is not run at all.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;

use crate::config::{CHANGEABLE, mount_command};

/// Commands whose arguments are mountpoints. `get` and `set` have other arguments after it.
const MOUNT_COMMANDS: [&str; 6] = ["unmount", "umount", "status", "top", "reload", "doctor"];

/// Commands whose arguments are paths in mounts.
const PATH_COMMANDS: [&str; 7] = ["map", "explain", "pin", "unpin", "prefetch", "evict", "refresh"];

/// Words of mount(8) that are worth a suggestion, besides the options.
const WORDS: [&str; 6] = ["ro", "remount", "_netdev", "noauto", "nofail", "defaults"];

/// The script for a shell. Shells without lines of their own get clap's.
pub(super) fn script(shell: Shell, mut command: Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "fetchfs", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script + &filled(include_str!("completion/more.bash"), " | "),
        Shell::Fish => script + &filled(include_str!("completion/more.fish"), " "),
        Shell::Zsh => zsh(&script),
        _ => script,
    }
}

/// Puts the names in the place of words in capitals.
fn filled(more: &str, between_commands: &str) -> String {
    let options = options();
    let all: Vec<String> = options.iter().map(|option| option.written()).collect();
    let all = all.iter().map(String::as_str).chain(WORDS);
    let names: Vec<&str> = options.iter().map(|option| option.name.as_str()).collect();
    let settable = CHANGEABLE.map(|name| format!("{name}="));
    more.replace("MOUNT_COMMANDS", &MOUNT_COMMANDS.join(between_commands))
        .replace("PATH_COMMANDS", &PATH_COMMANDS.join(between_commands))
        .replace("OPTIONS", &all.collect::<Vec<_>>().join(" "))
        .replace("NAMES", &names.join(" "))
        .replace("SETTABLE", &settable.join(" "))
}

/// clap's script with functions of our own for arguments that it does not know more of.
fn zsh(script: &str) -> String {
    let known = script.lines().map(|line| {
        let name = line
            .trim_start_matches(['\'', '*', ':'])
            .split(" -- ")
            .next()
            .unwrap_or_default();
        let (what, completer) = match name {
            _ if line.contains(":OPTS:_default") => (":OPTS:_default", ":OPTS:_fetchfs_options"),
            // The only one that is none yet.
            "mountpoint" if line.contains("The empty directory") => return line.to_owned(),
            "mountpoint" | "mountpoints" => (":_files'", ":_fetchfs_mounts'"),
            "sources" if line.contains("a mountpoint of fetchfs") => (":_default'", ":_fetchfs_mounts'"),
            "paths" => (":_files'", ":_fetchfs_paths'"),
            "key" => (":_default'", ":_fetchfs_names'"),
            "assignments" => (":_default'", ":_fetchfs_settings'"),
            _ => return line.to_owned(),
        };
        line.replace(what, completer)
    });
    let known: Vec<String> = known.collect();
    let known = known.join("\n") + "\n";
    let options = options();
    let values = |options: &mut dyn Iterator<Item = &NamedOption>| {
        let mut text = String::new();
        for option in options {
            let _ = match (&option.value, option.is_path) {
                (Some(value), true) => write!(text, " '{}:{value}:_files'", option.name),
                (Some(value), false) => write!(text, " '{}:{value}: '", option.name),
                (None, _) => write!(text, " {}", option.name),
            };
        }
        text
    };
    let all = values(&mut options.iter()) + " " + &WORDS.join(" ");
    let settings = values(
        &mut options
            .iter()
            .filter(|option| CHANGEABLE.contains(&option.name.as_str())),
    );
    let names: Vec<&str> = options.iter().map(|option| option.name.as_str()).collect();
    let more = include_str!("completion/more.zsh")
        .replace(" VALUES", &all)
        .replace(" SETTINGS", &settings)
        .replace("NAMES", &names.join(" "));
    // The last lines call the function above or register it, so they stay the last.
    let end = "if [ \"$funcstack[1]\" = \"_fetchfs\" ]";
    match known.split_once(end) {
        Some((before, after)) => format!("{before}{more}{end}{after}"),
        None => known + &more,
    }
}

/// An option after `-o`.
struct NamedOption {
    name: String,
    /// The placeholder of its value; `None` for a switch.
    value: Option<String>,
    is_path: bool,
}

impl NamedOption {
    fn of(flag: &Arg) -> Option<NamedOption> {
        let long = flag.get_long().filter(|long| !matches!(*long, "options" | "help"))?;
        let is_switch = matches!(flag.get_action(), ArgAction::SetTrue | ArgAction::Count);
        let value = flag.get_value_names().and_then(<[_]>::first);
        let value = value.map_or_else(|| "VALUE".to_owned(), ToString::to_string);
        Some(NamedOption {
            name: long.replace('-', "_"),
            is_path: matches!(value.as_str(), "FILE" | "DIR"),
            value: (!is_switch).then_some(value),
        })
    }

    /// As a list of words has it: with `=` if a value follows.
    fn written(&self) -> String {
        match self.value {
            Some(_) => format!("{}=", self.name),
            None => self.name.clone(),
        }
    }
}

fn options() -> Vec<NamedOption> {
    mount_command().get_arguments().filter_map(NamedOption::of).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::super::shown_commands;
    use super::*;
    use crate::cli::command;

    fn script_of(shell: Shell) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        // The name that zsh expects.
        let path = directory.path().join("_fetchfs");
        std::fs::write(&path, script(shell, shown_commands(&command()))).unwrap();
        (directory, path)
    }

    /// What bash offers at the end of this line.
    fn bash(line: &str) -> Vec<String> {
        let (_directory, path) = script_of(Shell::Bash);
        // Readline splits at the characters of COMP_WORDBREAKS and passes the last piece.
        let program = r#"
            source "$1"; COMP_LINE=$2; COMP_POINT=${#2}
            COMP_WORDS=($2); [[ $2 != *\  ]] || COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); current=${COMP_WORDS[COMP_CWORD]}
            _fetchfs_complete fetchfs "${current##*[=:]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let mut process = Process::new("bash");
        process.args(["--norc", "-c", program, "bash"]).arg(path).arg(line);
        let output = process.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn bash_completes_names_after_o_and_keys() {
        assert_eq!(bash("fetchfs mount -o allow_o"), ["allow_other"]);
        assert_eq!(bash("fetchfs mount -o ro,allow_o"), ["ro,allow_other"]);
        assert_eq!(bash("fetchfs mount -oro,bwl"), ["-oro,bwlimit="]);
        // What bash replaces begins after the last `=`.
        assert_eq!(bash("fetchfs mount -o cache_size=20G,allow_o"), ["20G,allow_other"]);
        assert_eq!(bash("fetchfs mount --options=remo"), ["remount"]);
        assert_eq!(bash("fetchfs mount http://h/ -o chunk_"), ["chunk_size="]);
        assert_eq!(bash("fetchfs set /mnt bwl"), ["bwlimit="]);
        assert_eq!(bash("fetchfs set /mnt bwlimit=1 verb"), ["verbose="]);
        assert_eq!(bash("fetchfs set /mnt chunk"), [""; 0], "it can't change");
        assert_eq!(bash("fetchfs get /mnt chunk"), ["chunk_size"]);
        // Values are files or what the user knows.
        assert_eq!(bash("fetchfs mount -o cache_dir="), [""; 0]);
        assert_eq!(bash("fetchfs mount http://h/ "), [""; 0]);
    }

    #[test]
    fn bash_completes_commands_and_flags() {
        assert_eq!(bash("fetchfs unmo"), ["unmount"]);
        assert_eq!(bash("fetchfs mount --cache-s"), ["--cache-size"]);
        assert!(bash("fetchfs mount --type ").contains(&"index".to_owned()));
        assert_eq!(bash("fetchfs status --js"), ["--json"]);
        // The shell completes the names of files below a mountpoint.
        assert_eq!(bash("fetchfs explain /mn"), [""; 0]);
    }

    #[test]
    fn fish_completes_names_after_o_and_keys() {
        let (_directory, path) = script_of(Shell::Fish);
        let fish = |line: &str| {
            let mut process = Process::new("fish");
            let program = format!("source {}; complete -C '{line}'", path.display());
            let output = process.args(["--no-config", "-c", &program]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
        };
        assert_eq!(fish("fetchfs mount -o ro,allow_o"), "ro,allow_other");
        assert_eq!(fish("fetchfs mount -o cache_size=20G,bwl"), "cache_size=20G,bwlimit=");
        assert_eq!(fish("fetchfs mount --options=remo"), "--options=remount");
        assert_eq!(fish("fetchfs set /mnt bwl"), "bwlimit=");
        assert_eq!(fish("fetchfs get /mnt chunk_s"), "chunk_size");
        assert!(fish("fetchfs unmo").starts_with("unmount"));
    }

    #[test]
    fn zsh_asks_our_functions() {
        let (directory, path) = script_of(Shell::Zsh);
        let script = std::fs::read_to_string(&path).unwrap();
        for name in ["options", "mounts", "paths", "names", "settings"] {
            let function = format!("_fetchfs_{name}");
            let uses = script.matches(&format!(":{function}'")).count();
            assert!(uses > 0 && script.contains(&format!("\n{function}() {{")), "{function}");
        }
        // A shell of its own behind a pseudo-terminal completes what is typed there.
        let program = r#"
            zmodload zsh/zpty; zpty z zsh -f -i
            zpty -w z "PS1=; fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; unsetopt BEEP; echo READY"
            zpty -r -m z text '*READY*READY*'
            zpty -w -n z $'fetchfs mount -o ro,allow_o\t'; zpty -r -m z text '*ro,allow_other*'
            zpty -w -n z $'\C-ufetchfs set /mnt bwl\t'; zpty -r -m z text '*bwlimit=*'
            print done
        "#;
        let mut process = Process::new("timeout");
        process
            .args(["60", "zsh", "-f", "-c", program, "zsh"])
            .arg(directory.path());
        let output = process.env("TERM", "dumb").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "done", "{output:?}");
    }
}
