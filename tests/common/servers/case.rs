//! Small servers in Python with one peculiarity each, as found on the web (`tests/fixtures/cases/`).

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::WebServer;
use crate::common::process::Pidfd;
use crate::common::program;

/// The directory of the scripts.
pub fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases")
}

impl WebServer {
    /// Starts `tests/fixtures/cases/NAME` with these arguments. `PORT` among them stands for the port to listen on,
    /// `OTHER` for another free one.
    #[track_caller]
    pub fn case(name: &str, arguments: &[&str]) -> WebServer {
        assert!(arguments.contains(&"PORT"), "a case is started with its port");
        WebServer::start(name, |_, port| {
            let mut command = Command::new(program("python3", "python3"));
            command.env("PYTHONDONTWRITEBYTECODE", "1").arg(cases().join(name));
            for &argument in arguments {
                match argument {
                    "PORT" => command.arg(port.to_string()),
                    "OTHER" => command.arg(super::free_port().to_string()),
                    other => command.arg(other),
                };
            }
            command
        })
    }

    /// Sends a signal to the server's process.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        Pidfd::open(self.child.id()).expect("the server runs").signal(signal);
    }

    /// Everything that the server has printed so far, on both streams.
    #[track_caller]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.home.path().join("output")).expect("what the server printed")
    }
}
