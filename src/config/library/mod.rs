//! A library's file: TOML with the sources of one mount, each in a table `[[source]]`.
//!
//! Above the tables are options of the mount, as in the config file. An option of a source has the name of its flag of
//! `fetchfs mount` ([`options::OF_SOURCES`]); the others ([`options::LibraryArgs`]) say where the source is in the tree and which of its names
//! are shown. What is said for all sources holds for those that do not say otherwise: in the config file, then above the
//! tables, then on the command line. **Credentials are for one server, so only a source's own table has them**, or a
//! table for its URL in the config file.
//!
//! [`LibraryFile::load`] can be called again, after the file was changed. It does not depend on the working directory:
//! relative paths are relative to the file.

mod check;
mod fault;
mod file;
mod member;
mod name;
mod options;

pub(crate) use check::{Checked, check_config};
pub(crate) use file::LibraryFile;
pub(super) use name::is_library;
pub(crate) use options::source_command;
pub(super) use options::without_environment;
