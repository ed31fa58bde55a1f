//! A tier in front of the origin: an nginx with the configuration that `fetchfs tier config` prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use url::Url;

use super::bench::Bench;
use super::nginx;
use super::origin::{Address, Profile};
use super::process;
use super::tool::Tool;

/// More than any line puts into it.
const CACHE_SIZE: &str = "16G";

/// A tier that is not running. Its slices stay until it is dropped.
pub struct Tier {
    folder: TempDir,
    config: String,
    port: u16,
    origin: Address,
}

/// A running tier; ended when dropped.
pub struct RunningTier<'a> {
    child: Child,
    tier: &'a Tier,
}

impl Tier {
    /// A tier with an empty cache, in front of the origin with this profile.
    ///
    /// # Errors
    /// When fetchfs prints no configuration.
    pub fn new(bench: &Bench, profile: Profile) -> Result<Tier> {
        let folder = bench.folder()?;
        let [port] = nginx::free_ports()?;
        let origin = bench.origin.address(profile.into());
        let config = config(&bench.programs.fetchfs, port, &origin.url, folder.path())?;
        Ok(Tier {
            folder,
            config,
            port,
            origin,
        })
    }

    /// Starts it, with the slices that it has.
    ///
    /// # Errors
    /// When it does not come to answer.
    pub fn start(&self) -> Result<RunningTier<'_>> {
        let child = nginx::start(self.folder.path(), &self.config, &[self.port])?;
        Ok(RunningTier { child, tier: self })
    }
}

impl RunningTier<'_> {
    /// Where a tool mounts the corpus, and the options by which it reads through the tier. Tools that know nothing of tiers
    /// mount the tier's own URL for the origin.
    ///
    /// # Errors
    /// When the origin has no such URL.
    pub fn way_for(&self, tool: Tool) -> Result<(Address, Vec<String>)> {
        let Tier { port, origin, .. } = self.tier;
        let node = format!("http://127.0.0.1:{port}");
        if tool == Tool::Fetchfs {
            return Ok((origin.clone(), vec!["--tier".into(), node]));
        }
        let url = Url::parse(&origin.url)?;
        let authority = url.port().context("the origin has a port")?;
        let address = Address {
            url: format!("{node}/http/127.0.0.1:{authority}/"),
            ..origin.clone()
        };
        Ok((address, Vec::new()))
    }
}

impl Drop for RunningTier<'_> {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

fn config(fetchfs: &PathBuf, port: u16, origin: &str, folder: &Path) -> Result<String> {
    let cache = folder.join("cache");
    fs::create_dir_all(&cache)?;
    let mut command = Command::new(fetchfs);
    command.args(["tier", "config", "--cache-size", CACHE_SIZE, "--cache-dir"]);
    command.arg(cache).args(["--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--allow", origin.trim_end_matches('/')]);
    let said = command.output()?;
    ensure!(
        said.status.success(),
        "no configuration of a tier: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(String::from_utf8(said.stdout)?)
}
