//! (being written)

use crate::cli::Ready;
use crate::config::MountConfig;

/// (being written)
pub fn run(_config: MountConfig, ready: Ready) -> anyhow::Result<()> {
    ready.up()?;
    Ok(())
}
