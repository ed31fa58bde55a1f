//! The manual pages: fetchfs(1), one for each command, mount.fetchfs(8) and fetchfs.toml(5).
//!
//! clap_mangen writes what it knows of a command. The sections after that, and the two pages that are of no command, are
//! written here, from the same tables.

use clap::{Arg, Command};
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use crate::config::{library_options, mount_command, words_of_mount};

const SOURCE: &str = concat!("fetchfs ", env!("CARGO_PKG_VERSION"));

/// A page, and the name of its file.
pub(super) struct Page {
    pub(super) file: String,
    pub(super) text: Vec<u8>,
}

/// All pages.
///
/// # Errors
/// None that a writer into memory can have.
pub(super) fn pages(commands: Command) -> anyhow::Result<Vec<Page>> {
    let mut all = without_help(commands);
    all.build();
    let mut pages = Vec::new();
    of_command(&all, "fetchfs", &mut pages)?;
    pages.push(mount_helper());
    pages.push(config_file());
    Ok(pages)
}

/// Removes the `help` commands, which have no pages.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// The pages of a command and its subcommands.
fn of_command(command: &Command, name: &str, pages: &mut Vec<Page>) -> anyhow::Result<()> {
    // The examples have a section of their own.
    let named = command.clone().name(name.to_owned());
    let man = Man::new(named).source(SOURCE).manual("fetchfs");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let rest = ending(command, name);
    text.extend(rest.to_roff().into_bytes());
    pages.push(Page {
        file: format!("{name}.1"),
        text,
    });
    for inner in command.get_subcommands() {
        of_command(inner, &format!("{name}-{}", inner.get_name()), pages)?;
    }
    Ok(())
}

/// The sections after those of clap_mangen.
fn ending(command: &Command, name: &str) -> Roff {
    let mut roff = Roff::new();
    let help = command.get_after_long_help().or(command.get_after_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let examples: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Example"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(str::trim_start)
        .collect();
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        literal(&mut roff, &examples);
    }
    roff.control("SH", ["EXIT STATUS"]);
    items(
        &mut roff,
        &[
            ("0", "done"),
            ("1", "failed; one sentence on standard error says why, and what to do"),
            ("2", "the command line was not understood"),
        ],
    );
    if matches!(name, "fetchfs" | "fetchfs-mount" | "fetchfs-doctor") {
        roff.control("SH", ["ENVIRONMENT"]);
        items(
            &mut roff,
            &[
                (
                    "FETCHFS_CACHE_SIZE, FETCHFS_LOGIN, ...",
                    "each option of fetchfs-mount(1): its name in capitals, with _ for -. A flag and -o override it, and it \
                     overrides the config file. An empty variable counts as not set.",
                ),
                (
                    "FETCHFS_LOG",
                    "what is logged, by module: debug, or fetchfs::origin=debug",
                ),
                (
                    "http_proxy, https_proxy, all_proxy, no_proxy",
                    "the way to the servers, without --proxy",
                ),
                (
                    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ...",
                    "for S3, with the meaning of the AWS CLI",
                ),
                ("NETRC", "the file for --netrc"),
                (
                    "XDG_CACHE_HOME, XDG_CONFIG_HOME, XDG_RUNTIME_DIR",
                    "where the files below are",
                ),
            ],
        );
    }
    roff.control("SH", ["FILES"]);
    items(
        &mut roff,
        &[
            (
                "~/.cache/fetchfs, /var/cache/fetchfs",
                "the cache of a user, and of root",
            ),
            (
                "~/.config/fetchfs/config, /etc/fetchfs/config",
                "the config file of a user, and of root",
            ),
            (
                "$XDG_RUNTIME_DIR/fetchfs, /tmp/fetchfs-UID, /run/fetchfs",
                "a lock and a control socket for each mount of a user, and of root",
            ),
        ],
    );
    see_also(&mut roff, name);
    roff
}

fn see_also(roff: &mut Roff, name: &str) {
    const PAGES: [(&str, u8); 7] = [
        ("fetchfs", 1),
        ("fetchfs-mount", 1),
        ("fetchfs-status", 1),
        ("fetchfs-doctor", 1),
        ("fetchfs.toml", 5),
        ("mount.fetchfs", 8),
        ("fusermount3", 1),
    ];
    roff.control("SH", ["SEE ALSO"]);
    let mut inlines = Vec::new();
    for (page, section) in PAGES.iter().filter(|(page, _)| *page != name) {
        if !inlines.is_empty() {
            inlines.push(roman(", "));
        }
        inlines.extend([bold(*page), roman(format!("({section})"))]);
    }
    roff.text(inlines);
}

/// A list of names with their meanings.
fn items(roff: &mut Roff, items: &[(&str, &str)]) {
    for (name, meaning) in items {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*meaning)]);
    }
}

/// Lines as they are.
fn literal(roff: &mut Roff, lines: &[&str]) {
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(*line)]);
    }
    roff.control("fi", []);
}

fn title(roff: &mut Roff, name: &str, section: &str) {
    roff.control("TH", [name, section, "", SOURCE, "fetchfs"]);
}

/// mount.fetchfs(8): what mount(8) and fstab need.
fn mount_helper() -> Page {
    let mut roff = Roff::new();
    title(&mut roff, "mount.fetchfs", "8");
    roff.control("SH", ["NAME"]);
    roff.text([roman(
        "mount.fetchfs - mount remote files by mount(8), fstab(5) and autofs(5)",
    )]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([
        bold("mount -t fetchfs"),
        roman(" [-o "),
        italic("options"),
        roman("] "),
        italic("source directory"),
    ]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "mount(8) runs this helper for file systems of the types fetchfs and fuse.fetchfs. It runs fetchfs-mount(1) with the same options: each \
         long flag there is an option after -o here, with _ or - in its name, and a comma in a value is written \\,.",
    )]);
    roff.text([roman(
        "A mount is always read-only. Besides the options of fetchfs-mount(1), these words of mount(8), fstab(5) and libfuse are \
         known; all others are errors:",
    )]);
    for (words, effect) in words_of_mount() {
        roff.control("TP", []);
        roff.text([bold(words)]);
        roff.text([roman(effect)]);
    }
    roff.control("SH", ["OPTIONS"]);
    items(
        &mut roff,
        &[
            ("-o options", "as above"),
            ("-f", "fake: check the arguments, and mount nothing"),
            ("-v", "log more"),
            ("-s, -n, -N namespace, -t type", "accepted for mount(8), without effect"),
        ],
    );
    roff.control("SH", ["EXIT STATUS"]);
    items(
        &mut roff,
        &[
            ("0", "mounted"),
            ("1", "the options were not understood"),
            ("32", "the mount failed"),
        ],
    );
    roff.control("SH", ["EXAMPLES"]);
    literal(
        &mut roff,
        &[
            "mount -t fetchfs -o allow_other https://example.org/pub/ /mnt/pub",
            "mount -o remount,bwlimit=2MB /mnt/pub",
            "# in /etc/fstab",
            "https://example.org/pub/  /mnt/pub  fetchfs  allow_other,nofail,_netdev  0 0",
        ],
    );
    see_also(&mut roff, "mount.fetchfs");
    Page {
        file: "mount.fetchfs.8".to_owned(),
        text: roff.to_roff().into_bytes(),
    }
}

/// fetchfs.toml(5): the config file and libraries.
fn config_file() -> Page {
    let mut roff = Roff::new();
    title(&mut roff, "fetchfs.toml", "5");
    roff.control("SH", ["NAME"]);
    roff.text([roman("fetchfs.toml - the config file and the libraries of fetchfs")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "Both are TOML (https://toml.io). The config file sets options for all mounts of a user. A library is a source: many \
         sources in one mount. A file with secrets must be readable by its owner only. fetchfs-config-check(1) says all \
         mistakes in either, with line and column.",
    )]);
    roff.control("SH", ["CONFIG FILE"]);
    literal(
        &mut roff,
        &[
            "cache_size = \"50GiB\"",
            "allow_other = true",
            "",
            "# For sources at this URL and below it.",
            "[\"https://example.org/private/\"]",
            "login = \"ann:correct horse\"",
        ],
    );
    roff.text([roman(
        "The keys are the options of fetchfs-mount(1), with _ or - in their names:",
    )]);
    keys(&mut roff, &mount_command());
    roff.control("SH", ["LIBRARY"]);
    literal(
        &mut roff,
        &[
            "[[source]]",
            "url = \"davs://cloud.example.org/remote.php/dav/files/ann/\"",
            "at = \"cloud\"",
            "login = \"ann\"",
            "password_file = \"/etc/fetchfs/ann.secret\"",
            "",
            "[[source]]",
            "url = \"https://mirror.example.org/films/\"",
            "at = \"films\"",
            "include = [\"*.mkv\", \"*.srt\"]",
        ],
    );
    roff.text([roman(
        "Options of the whole mount come before the first source. Sources at one place are merged, and the first wins. A \
         source may have these keys:",
    )]);
    keys(&mut roff, &library_options());
    see_also(&mut roff, "fetchfs.toml");
    Page {
        file: "fetchfs.toml.5".to_owned(),
        text: roff.to_roff().into_bytes(),
    }
}

/// The options of a command as keys of a file.
fn keys(roff: &mut Roff, command: &Command) {
    let is_key = |arg: &&Arg| {
        arg.get_long()
            .is_some_and(|long| !matches!(long, "help" | "options" | "config"))
    };
    for arg in command.get_arguments().filter(is_key) {
        let name = arg.get_long().unwrap_or_default().replace('-', "_");
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(help)]);
    }
}
