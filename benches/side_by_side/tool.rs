//! The tools that are compared, as a user would start them: with defaults, and rclone once more as its manual tunes it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::origin::{Address, Protocol};

/// One column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// What all this is about.
    Fetchfs,
    /// `rclone mount`, with the cache that reading at random places needs.
    Rclone,
    /// The same with parallel chunks, and nothing kept in memory.
    RcloneTuned,
    /// `httpdirfs` with its cache.
    Httpdirfs,
}

/// All columns, in the table's order.
pub const ALL: [Tool; 4] = [Tool::Fetchfs, Tool::Rclone, Tool::RcloneTuned, Tool::Httpdirfs];

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// fetchfs itself.
    pub fetchfs: PathBuf,
    /// rclone, for both of its columns.
    pub rclone: PathBuf,
    /// httpdirfs.
    pub httpdirfs: PathBuf,
}

impl Tool {
    /// As options and files name it.
    pub fn id(self) -> &'static str {
        match self {
            Tool::Fetchfs => "fetchfs",
            Tool::Rclone => "rclone",
            Tool::RcloneTuned => "rclone-tuned",
            Tool::Httpdirfs => "httpdirfs",
        }
    }

    /// As the table names it.
    pub fn title(self) -> &'static str {
        match self {
            Tool::RcloneTuned => "rclone, tuned",
            other => other.id(),
        }
    }

    /// What its program is called.
    fn program(self) -> &'static str {
        match self {
            Tool::RcloneTuned => "rclone",
            other => other.id(),
        }
    }

    /// The tool with this [`Self::id`].
    pub fn from_id(id: &str) -> Option<Tool> {
        ALL.into_iter().find(|tool| tool.id() == id)
    }
}

impl Programs {
    /// Where a tool's program is.
    pub fn path(&self, tool: Tool) -> &Path {
        match tool {
            Tool::Fetchfs => &self.fetchfs,
            Tool::Rclone | Tool::RcloneTuned => &self.rclone,
            Tool::Httpdirfs => &self.httpdirfs,
        }
    }

    /// What the program says of its version; `None` when it is not there.
    pub fn version(&self, tool: Tool) -> Option<String> {
        let said = Command::new(self.path(tool))
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        let said = said.ok()?;
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        // httpdirfs names the libraries that it is made of as well.
        let is_own = |line: &&str| line.to_lowercase().starts_with(tool.program());
        Some(text.lines().find(is_own).unwrap_or(tool.program()).trim().to_owned())
    }

    /// The command that mounts what is at an address and stays in the foreground.
    pub fn mount(&self, tool: Tool, address: &Address, mountpoint: &Path, cache: &Path) -> Command {
        let mut command = Command::new(self.path(tool));
        // Whatever the person who runs this has set would make it another tool.
        let foreign = |name: &str| {
            let proxy = name.to_ascii_lowercase().ends_with("_proxy");
            proxy
                || ["FETCHFS_", "RCLONE_", "AWS_"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(foreign) {
                command.env_remove(name);
            }
        }
        let Address { protocol, url, bucket } = address;
        match tool {
            Tool::Fetchfs => {
                command.args(["mount", "--foreground", "--cache-dir"]).arg(cache);
                match protocol {
                    Protocol::Http => command.arg(url),
                    Protocol::NginxDav | Protocol::RcloneDav => command.arg(url.replacen("http", "dav", 1)),
                    Protocol::RcloneS3 => command
                        .args(["--no-sign-request", "--endpoint-url", url])
                        .arg(format!("s3://{bucket}/")),
                };
                command.arg(mountpoint);
            }
            Tool::Rclone | Tool::RcloneTuned => {
                // An empty name means no file: the user's own configuration stays out of it.
                command.args(["mount", "--config", ""]);
                match protocol {
                    Protocol::Http => command.args([":http:", "--http-url", url]),
                    Protocol::NginxDav | Protocol::RcloneDav => {
                        command.args([":webdav:", "--webdav-vendor", "other", "--webdav-url", url])
                    }
                    Protocol::RcloneS3 => {
                        command
                            .arg(format!(":s3:{bucket}"))
                            .args(["--s3-provider", "Rclone", "--s3-endpoint", url])
                    }
                };
                command.args(["--vfs-cache-mode", "full", "--cache-dir"]).arg(cache);
                if tool == Tool::RcloneTuned {
                    command.args(["--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M"]);
                    command.args(["--buffer-size", "0", "--vfs-fast-fingerprint"]);
                }
                command.arg(mountpoint);
            }
            Tool::Httpdirfs => {
                command.args(["-f", "--no-range-check", "--cache", "--cache-location"]);
                // It speaks nothing but HTTP.
                command.arg(cache).arg(url).arg(mountpoint);
            }
        }
        command
    }
}
