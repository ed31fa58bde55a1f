//! The options of the status page ([`crate::web`]).

use std::path::PathBuf;

use clap::Args;

use super::network::NetworkError;
use super::network::values::first_line;
use super::paths::{PathError, absolute};
use crate::http::Secret;
use crate::web::{HostName, ListenAddress, SHORTEST_TOKEN, WebConfig};

/// Where the status page is, and who may see it.
#[derive(Args, PartialEq)]
pub(super) struct WebArgs {
    /// Serve a status page, metrics and a health check over HTTP, for example at 127.0.0.1:9090 or unix:/run/fetchfs.sock
    ///
    /// An IP address with a port, where port 0 is a free one that `fetchfs status` names; or unix: and the path of a socket,
    /// to which only the user of the mount can connect. The page shows what `fetchfs top` shows, /metrics is for Prometheus,
    /// and /healthz says whether the mount does its work. Each mount needs a port of its own. docs/monitoring.md has more.
    ///
    /// Default: nothing is served.
    #[arg(long, value_name = "ADDR:PORT", value_parser = |text: &str| text.parse::<ListenAddress>(), help_heading = "Running")]
    http_listen: Option<ListenAddress>,

    /// File with the token that clients of --http-listen need; any address but a loopback one and unix: needs it
    ///
    /// The first line counts, of at least 16 characters; `openssl rand -hex 32` makes one. A client sends it as the header
    /// "Authorization: Bearer TOKEN". A browser opens the page with ?token=TOKEN once.
    ///
    /// Default: on this machine every user can read the page.
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    http_token_file: Option<PathBuf>,

    /// Further host name by which clients of --http-listen may ask, for example nas or nas:9090
    ///
    /// Without this option only the address itself counts, and localhost if it is a loopback address, so that no web page
    /// from elsewhere can read the status (DNS rebinding). It can be used several times.
    #[arg(long, value_name = "HOST", value_parser = |text: &str| text.parse::<HostName>(), help_heading = "Running")]
    http_host: Vec<HostName>,
}

/// Why the status page can't be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// Other machines could read it.
    #[error(
        "--http-listen {0}: other machines can connect there, so a token is needed; add --http-token-file FILE, or listen \
         at 127.0.0.1"
    )]
    NoToken(ListenAddress),
    /// An option without effect.
    #[error("{0} has no effect without --http-listen; add --http-listen ADDR:PORT")]
    NotListening(&'static str),
    /// The file of the token can't be read.
    #[error(transparent)]
    File(#[from] NetworkError),
    /// A token that can be guessed.
    #[error(
        "--http-token-file {}: the token must have {SHORTEST_TOKEN} characters at least; `openssl rand -hex 32` makes one",
        .0.display()
    )]
    ShortToken(PathBuf),
    /// A path can't be resolved.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl WebError {
    /// Returns true if the command line is wrong, false if the machine is not ready for it.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::NoToken(_) | Self::NotListening(_))
    }
}

impl WebArgs {
    /// Reads the token.
    ///
    /// # Errors
    /// If the options contradict each other, or the token can't be used.
    pub(super) fn resolve(self) -> Result<Option<WebConfig>, WebError> {
        let Some(listen) = self.http_listen else {
            return match (self.http_token_file, self.http_host.first()) {
                (Some(_), _) => Err(WebError::NotListening("--http-token-file")),
                (None, Some(_)) => Err(WebError::NotListening("--http-host")),
                (None, None) => Ok(None),
            };
        };
        let token = match self.http_token_file {
            Some(path) => {
                let token = first_line("--http-token-file", &path)?.trim().to_owned();
                if token.chars().count() < SHORTEST_TOKEN {
                    return Err(WebError::ShortToken(path));
                }
                Some(Secret::new(token))
            }
            None if listen.is_local() => None,
            None => return Err(WebError::NoToken(listen)),
        };
        let listen = match listen {
            ListenAddress::Unix(path) => ListenAddress::Unix(absolute(path)?),
            tcp @ ListenAddress::Tcp(_) => tcp,
        };
        Ok(Some(WebConfig {
            listen,
            hosts: self.http_host,
            token,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::ConfigError;
    use crate::config::mount_config::MountConfig;
    use crate::config::resolve::tests::config;

    fn with(options: &[&str]) -> Result<MountConfig, ConfigError> {
        config(&[&["http://h/", "/"], options].concat())
    }

    #[test]
    fn nothing_is_served_by_default() {
        assert_eq!(with(&[]).unwrap().web, None);
    }

    #[test]
    fn other_machines_need_a_token() {
        let open = with(&["--http-listen", "0.0.0.0:9090"]).unwrap_err();
        assert!(open.is_usage());
        insta::assert_snapshot!(open, @"--http-listen 0.0.0.0:9090: other machines can connect there, so a token is needed; add --http-token-file FILE, or listen at 127.0.0.1");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let path = file.to_str().unwrap();
        let guarded = || with(&["--http-listen", "[::]:9090", "--http-token-file", path]);
        assert!(guarded().unwrap_err().to_string().contains("No such file"));
        fs::write(&file, "short\n").unwrap();
        assert!(guarded().unwrap_err().to_string().contains("16 characters"));
        fs::write(&file, "0123456789abcdef\nmore").unwrap();
        let web = guarded().unwrap().web.unwrap();
        assert_eq!(web.token.unwrap().expose(), "0123456789abcdef");
    }

    #[test]
    fn what_has_no_effect_is_refused() {
        for option in ["--http-token-file", "--http-host"] {
            let alone = with(&[option, "x"]).unwrap_err();
            assert!(alone.is_usage());
            assert_eq!(
                alone.to_string(),
                format!("{option} has no effect without --http-listen; add --http-listen ADDR:PORT")
            );
        }
    }

    #[test]
    fn socket_and_names_are_taken_over() {
        let web = with(&["--http-listen=unix:s", "--http-host=nas", "--http-host=b:80"])
            .unwrap()
            .web
            .unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(web.listen.to_string(), format!("unix:{}", here.join("s").display()));
        assert_eq!((web.hosts.len(), web.token), (2, None));
    }
}
