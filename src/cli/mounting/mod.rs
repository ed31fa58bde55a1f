//! Commands that make, end and change mounts.

pub(super) mod config;
pub(super) mod list;
pub(super) mod mount;
pub(super) mod options;
pub(super) mod reload;
mod remount;
pub(super) mod unmount;
