//! Servers with non-default settings, and proxies.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{WebServer, write_config};
use crate::common::{is_root, program};

impl WebServer {
    /// nginx without ranges (`max_ranges 0`).
    #[track_caller]
    pub fn nginx_without_ranges(root: &Path) -> WebServer {
        WebServer::nginx_that(root, |port| format!("listen 127.0.0.1:{port}; max_ranges 0;"))
    }

    /// nginx that compresses everything it can.
    #[track_caller]
    pub fn nginx_with_gzip(root: &Path) -> WebServer {
        WebServer::nginx_that(root, |port| {
            format!("listen 127.0.0.1:{port}; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;")
        })
    }

    /// `rclone serve http`.
    #[track_caller]
    pub fn rclone(root: &Path) -> WebServer {
        WebServer::start("rclone", |home, port| {
            let mut command = Command::new(program("rclone", "rclone"));
            command
                .args(["serve", "http", "--config", "/dev/null", "--read-only", "--addr"])
                .arg(format!("127.0.0.1:{port}"))
                .arg(root);
            command.env("HOME", home).env("XDG_CACHE_HOME", home);
            command
        })
    }

    /// Squid as a forward proxy.
    #[track_caller]
    pub fn squid() -> WebServer {
        WebServer::start("squid", |home, port| {
            if is_root() {
                // Squid refuses to run as root, and writes its logs as this user.
                let proxy = nix::unistd::User::from_name("proxy").expect("users").expect("its user");
                nix::unistd::chown(home, Some(proxy.uid), Some(proxy.gid)).expect("to give it away");
            }
            let at = home.display();
            let config = format!(
                "http_port 127.0.0.1:{port}\nhttp_access allow all\nvisible_hostname localhost\npid_filename {at}/pid
                 \ncache_log {at}/error\naccess_log stdio:{at}/access\ncoredump_dir {at}\nnetdb_filename none
                 \nshutdown_lifetime 0 seconds\n"
            );
            let config: String = config.lines().map(|line| line.trim().to_owned() + "\n").collect();
            let mut command = Command::new(program("squid", "squid"));
            command.args(["-N", "-f"]).arg(write_config(home, &config));
            command
        })
    }

    /// tinyproxy as a forward proxy.
    #[track_caller]
    pub fn tinyproxy() -> WebServer {
        WebServer::start("tinyproxy", |home, port| {
            let config = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\nMaxClients 100\nLogFile \"{0}/access\"\nPidFile \"{0}/pid\"\n",
                home.display()
            );
            let mut command = Command::new(program("tinyproxy", "tinyproxy"));
            command.args(["-d", "-c"]).arg(write_config(home, &config));
            command
        })
    }

    /// A proxy's log of requested hosts.
    #[track_caller]
    pub fn noted(&self) -> String {
        fs::read_to_string(self.home.path().join("access")).expect("an access log")
    }
}
