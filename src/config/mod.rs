//! The configuration, in two stages, as in ripgrep.
//!
//! [`MountArgs`] has the arguments: a clap struct that is the only table of options. `--help`, the `-o` names, the keys
//! of the config file and the environment variables are derived from it. [`MountConfig`] is the resolved form: plain
//! values, all checked, every path absolute, every default filled in. The layers below see only the second, and each
//! receives only its own part.

mod args;
mod changeable;
mod error;
mod file;
mod library;
mod mount_config;
mod network;
mod option_sources;
mod options;
mod remount;
mod resolve;
mod s3;
mod scan;
mod source_settings;
mod values;
mod web;

pub use args::mount_command;
pub(crate) use args::{DESCRIPTORS, MountArgs};
pub(crate) use changeable::{CHANGEABLE, Changeable, absolute_assignment, option_named};
pub(crate) use error::ConfigError;
pub(crate) use file::{FileError, SECRETS};
pub(crate) use library::{Checked, LibraryFile, check_config, source_command as library_options};
pub(crate) use mount_config::{ATTR_TTL, EngineConfig, LogFormat, MountConfig, MountOptions};
pub(crate) use network::NetworkError;
pub(crate) use network::values::{
    check_user_agent, cookies as read_cookies, first_line, header as request_header, netrc as read_netrc,
};
pub(crate) use option_sources::{OptionSources, OptionValue, ValueOrigin};
pub use options::expand as expand_options;
pub(crate) use options::{Expanded, OptionError, unknown_variables, variable_of, words_of_mount};
pub(crate) use remount::{InForce, Split as RemountSplit, asked_for as remount_options};
pub(crate) use resolve::{cache_dir_beside_mounts, resolve};
pub(crate) use s3::{endpoint as s3_endpoint, region as s3_region};
pub(crate) use values::paths::{default_cache_dir, log_dir};
pub(crate) use values::source::{load as load_sources, parse as parse_source, shown};
pub(crate) use values::units::size as parse_size;
use values::{bandwidth, paths, source, units};
