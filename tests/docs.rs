//! The documents: what README.md and docs/*.md show can be done as they show it.
//!
//! The first word of a block's info string says what is checked ([`blocks::Check`]); a block without one fails. Every
//! `sh`, `console` and `fstab` block runs as it stands, in a sandbox of its own (`docs/sandbox.sh`): namespaces with
//! `https://example.org/` and all other hosts of the documents on loopback, and homes, `/etc` and `/mnt` to write to.

mod blocks;
mod shape;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use blocks::{Block, Check};

use crate::common::process::Ran;
use crate::common::servers::Certificates;
use crate::common::{is_root, program, run, temporary_directory};

/// Sandboxes at a time.
const AT_A_TIME: usize = 4;

/// Begins the output of a command of a `console` block.
const MARK: char = '\u{1e}';

/// The repository.
fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, SECURITY.md, CHANGELOG.md and the pages of docs.
fn pages() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(project().join(folder)).expect("a folder of the project");
        entries.map(|entry| entry.expect("an entry").path())
    };
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let mut pages: Vec<_> = in_folder(".").chain(in_folder("docs")).filter(is_page).collect();
    pages.sort();
    pages
}

fn all_blocks() -> Vec<Block> {
    let blocks = pages().into_iter().flat_map(|page| {
        let text = fs::read_to_string(&page).expect("a page");
        let name = page.strip_prefix(project()).expect("below it").display().to_string();
        blocks::in_page(&name, &text)
    });
    blocks.collect()
}

/// Runs a script in a sandbox in which all these hosts are on loopback.
fn in_sandbox(script: &str, certificates: &Certificates, hosts: &str) -> Ran {
    let place = temporary_directory();
    let file = temporary_directory();
    let block = file.path().join("block");
    fs::write(&block, script).expect("to write a script");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["--propagation", "private"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.arg("bash").arg(project().join("tests/docs/sandbox.sh"));
    command.args([place.path(), block.as_path()]).arg(hosts);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("FETCHFS", env!("CARGO_BIN_EXE_fetchfs"))
        .env("WEB_SERVER", program("nginx", "nginx"))
        .env("PROJECT", project())
        .env("CERTIFICATE", certificates.file("server.pem"))
        .env("KEY", certificates.file("server.key"))
        .env("SSL_CERT_FILE", certificates.file("ca.pem"));
    run(&mut command)
}

/// Runs a block; what is wrong with it, if anything is.
fn fault(block: &Block, certificates: &Certificates, hosts: &str) -> Option<String> {
    let sandbox = |script: &str| in_sandbox(script, certificates, hosts);
    match &block.check {
        Check::Run => failure(&block.text, sandbox),
        Check::Each => block.text.lines().find_map(|line| failure(line, sandbox)),
        Check::Compare => {
            let ran = sandbox(&transcript_script(&block.text));
            let parts = ran.out.split(MARK).skip(1);
            let shown = blocks::transcript(&block.text);
            let differing = shown.iter().zip(parts).find_map(|((command, expected), actual)| {
                let difference = shape::difference(expected, actual)?;
                Some(format!("$ {command}\n{difference}\nall of it:\n{actual}"))
            });
            let parts = ran.out.matches(MARK).count();
            differing.or_else(|| (parts != shown.len()).then(|| format!("the script ended early\n{}", ran.err)))
        }
        Check::Fstab => {
            let ran = sandbox(&fstab_script(&block.text));
            (ran.code != 0).then(|| format!("{}{}", ran.out, ran.err))
        }
        Check::Toml => {
            let script = format!(
                "umask 077\ncat >block.toml <<'END'\n{}END\nfetchfs config check block.toml",
                block.text
            );
            let ran = sandbox(&script);
            (ran.code != 0).then_some(ran.err)
        }
        Check::Json => {
            let parsed = serde_json::from_str::<serde_json::Value>(&block.text);
            parsed.err().map(|error| error.to_string())
        }
        Check::Nothing => None,
    }
}

fn failure(commands: &str, sandbox: impl Fn(&str) -> Ran) -> Option<String> {
    let ran = sandbox(&format!("set -euo pipefail\n{commands}"));
    (ran.code != 0).then(|| format!("{commands}\nexit status {}\n{}{}", ran.code, ran.out, ran.err))
}

fn transcript_script(text: &str) -> String {
    let commands = blocks::transcript(text).into_iter();
    commands
        .map(|(command, _)| format!("printf '{MARK}'\n{{\n{command}\n}} 2>&1 || :\n"))
        .collect()
}

/// `mount -fv` accepts each line, `mount` mounts it, and `umount` ends it.
fn fstab_script(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let targets = lines.filter_map(|line| line.split_whitespace().nth(1));
    let uses: String = targets
        .map(|at| format!("mkdir -p {at}\nmount -fv {at}\nmount {at}\nls {at} >/dev/null\numount {at}\n"))
        .collect();
    format!("set -eu\ncat >/etc/fstab <<'END'\n{text}END\n{uses}")
}

/// `DOCS_BLOCK=docs/recipes.md` runs those of a page, `DOCS_BLOCK=docs/recipes.md:17` one.
#[test]
fn blocks_of_the_documents_work() {
    let blocks = all_blocks();
    let wanted = std::env::var("DOCS_BLOCK").unwrap_or_default();
    let chosen = blocks.iter().filter(|block| block.place.starts_with(&wanted));
    let hosts: BTreeSet<String> = blocks.iter().flat_map(|block| blocks::hosts(&block.text)).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let certificates = Certificates::for_hosts(&hosts);
    let hosts = hosts.join(" ");

    let queue = Mutex::new(chosen);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(block) = queue.lock().expect("no panic").next() else {
                        return;
                    };
                    if let Some(fault) = fault(block, &certificates, &hosts) {
                        faults
                            .lock()
                            .expect("no panic")
                            .push(format!("{}\n{fault}", block.place));
                    }
                }
            });
        }
    });
    let mut faults = faults.into_inner().expect("no panic");
    faults.sort();
    assert!(faults.is_empty(), "{} faults:\n\n{}", faults.len(), faults.join("\n\n"));
}

#[test]
fn example_files_work() {
    let text = |path: &str| fs::read_to_string(project().join(path)).expect("an example");
    let fstab = text("mount-helpers/examples/fstab");
    let hosts: BTreeSet<String> = blocks::hosts(&fstab).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let certificates = Certificates::for_hosts(&hosts);
    in_sandbox(&fstab_script(&fstab), &certificates, &hosts.join(" ")).succeeded();

    let unit = "set -eu\n. $PROJECT/mount-helpers/examples/pub.conf\n\
                fetchfs mount -o $OPTIONS $SOURCE $MOUNTPOINT\nls $MOUNTPOINT/film.mkv";
    in_sandbox(unit, &certificates, &hosts.join(" ")).succeeded();
}

#[test]
fn every_flag_of_rclone_mount_is_explained() {
    let page = fs::read_to_string(project().join("docs/coming-from.md")).expect("a page");
    let explained: BTreeSet<&str> = page.split(|c: char| c.is_whitespace() || "`,".contains(c)).collect();
    let help = run(Command::new(program("rclone", "rclone")).args(["mount", "--help"]))
        .succeeded()
        .out;
    // A line of the list begins with the flag, or with its short form.
    let flags = help.lines().filter(|line| line.starts_with("  ")).filter_map(|line| {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let is_short = first.len() == 3 && first.starts_with('-') && first.ends_with(',');
        if is_short { words.next() } else { Some(first) }.filter(|word| word.starts_with("--"))
    });
    let missing: BTreeSet<&str> = flags
        .filter(|flag| !explained.contains(flag) && *flag != "--help")
        .collect();
    assert!(help.contains("--vfs-cache-mode"), "{help}");
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for target in blocks::links(&text).filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.clone(),
                _ => page.parent().expect("a folder").join(file),
            };
            let has_anchor = || {
                let text = fs::read_to_string(&path).unwrap_or_default();
                anchor.is_empty() || blocks::anchors(&text).any(|found| found == anchor)
            };
            if !path.exists() || !has_anchor() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
