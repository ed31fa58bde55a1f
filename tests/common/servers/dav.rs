//! WebDAV servers.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cases;
use super::guarded::Guard;
use super::{WebServer, write_config};
use crate::common::program;

/// Apache's modules for WebDAV.
const MODULES: [&str; 2] = ["dav", "dav_fs"];

impl WebServer {
    /// nginx with dav_ext. `pages`: with index pages as well.
    #[track_caller]
    pub fn nginx_dav(root: &Path, pages: bool) -> WebServer {
        let module = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";
        assert!(
            Path::new(module).exists(),
            "this test needs {module}: apt-get install libnginx-mod-http-dav-ext"
        );
        let autoindex = if pages { "on" } else { "off" };
        WebServer::nginx_with(root, &format!("load_module {module};"), "", |port| {
            format!(
                "listen 127.0.0.1:{port};
                 location / {{ dav_ext_methods PROPFIND OPTIONS; autoindex {autoindex}; }}"
            )
        })
    }

    /// Apache with mod_dav, and without index pages.
    #[track_caller]
    pub fn apache_dav(root: &Path) -> WebServer {
        WebServer::apache_that(root, &MODULES, "Require all granted\nDav On\nOptions -Indexes")
    }

    /// The same for users that log in, who may read and nothing else.
    #[track_caller]
    pub fn apache_dav_guarded(root: &Path, guard: Guard) -> WebServer {
        let lines = "Dav On\nOptions -Indexes\n<LimitExcept GET OPTIONS PROPFIND>\nRequire all denied\n</LimitExcept>";
        WebServer::apache_guarded_that(root, guard, &MODULES, lines)
    }

    /// lighttpd with mod_webdav, and without index pages.
    #[track_caller]
    pub fn lighttpd_dav(root: &Path) -> WebServer {
        WebServer::start("lighttpd", |home, port| {
            let config = format!(
                "server.modules = (\"mod_webdav\")\nserver.document-root = \"{}\"\nserver.bind = \"127.0.0.1\"
                 server.port = {port}\nwebdav.activate = \"enable\"\nwebdav.is-readonly = \"enable\"
                 server.errorlog = \"{}/error\"\n",
                root.display(),
                home.display()
            );
            let mut command = Command::new(program("lighttpd", "lighttpd lighttpd-mod-webdav"));
            command.arg("-D").arg("-f").arg(write_config(home, &config));
            command
        })
    }

    /// `rclone serve webdav`, without index pages.
    #[track_caller]
    pub fn rclone_dav(root: &Path) -> WebServer {
        WebServer::start("rclone", |home, port| {
            let mut command = Command::new(program("rclone", "rclone"));
            command
                .args([
                    "serve",
                    "webdav",
                    "--config",
                    "/dev/null",
                    "--read-only",
                    "--disable-dir-list",
                ])
                .args(["--addr", &format!("127.0.0.1:{port}")])
                .arg(root);
            command.env("HOME", home).env("XDG_CACHE_HOME", home);
            command
        })
    }

    /// `rclone serve s3`, where the directories of the root are buckets. It asks for no signature.
    #[track_caller]
    pub fn rclone_s3(root: &Path) -> WebServer {
        WebServer::start("rclone", |home, port| {
            let mut command = Command::new(python_server("rclone"));
            command
                .args(["serve", "s3", "--config", "/dev/null", "--read-only"])
                .args(["--addr", &format!("127.0.0.1:{port}")])
                .arg(root);
            command.env("HOME", home).env("XDG_CACHE_HOME", home);
            command
        })
    }

    /// moto's S3 service, with the bucket `bucket`, whose keys are the files below the root. It checks no signature.
    #[track_caller]
    pub fn moto_s3(root: &Path) -> WebServer {
        WebServer::start("moto", |_, port| {
            let mut command = Command::new(python_server("moto_server").with_file_name("python3"));
            command
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .arg(cases().join("moto_s3.py"))
                .arg(root)
                .arg(port.to_string());
            command
        })
    }

    /// WsgiDAV. It has index pages.
    #[track_caller]
    pub fn wsgidav(root: &Path) -> WebServer {
        WebServer::start("wsgidav", |home, port| {
            let mut command = Command::new(python_server("wsgidav"));
            command
                .args(["--no-config", "--auth", "anonymous", "--host", "127.0.0.1"])
                .args(["--port", &port.to_string(), "--root"])
                .arg(root)
                .current_dir(home);
            command
        })
    }

    /// copyparty. It has pages that a script fills in.
    #[track_caller]
    pub fn copyparty(root: &Path) -> WebServer {
        WebServer::start("copyparty", |home, port| {
            let mut volume = root.as_os_str().to_owned();
            volume.push(OsStr::new("::r"));
            let mut command = Command::new(python_server("copyparty"));
            command
                .args(["-q", "-i", "127.0.0.1", "-p", &port.to_string(), "--hist"])
                .arg(home)
                .arg("-v")
                .arg(volume)
                .env("HOME", home)
                .env("XDG_CONFIG_HOME", home)
                .current_dir(home);
            command
        })
    }

    /// The URL of a percent-encoded path, as WebDAV's.
    pub fn dav_url(&self, path: &str) -> String {
        let url = self.url(path);
        url.replacen("http", "dav", 1)
    }

    /// The methods of all requests so far, for nginx and Apache only.
    #[track_caller]
    pub fn methods(&self) -> Vec<String> {
        self.requests().into_iter().map(|line| line.method).collect()
    }
}

/// A server that comes as a Python package.
#[track_caller]
fn python_server(name: &str) -> PathBuf {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("servers");
    let file = installed.join("bin").join(name);
    if fs::exists(&file).unwrap_or(false) {
        return file;
    }
    program(name, &format!("(pip install {name})"))
}
