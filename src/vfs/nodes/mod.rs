//! The data of the tree: nodes, the names in directories, and what is known of each file. Nothing here asks an origin.
//!
//! From the ground up: [`listed_names`] are the packed names of one listing; a [`remote_file`] is one version of a file;
//! a [`snapshot`] shows names and pins their nodes; a [`directory`] has a snapshot, and a [`partial_listing`] while it receives one. A [`node`] is a directory or a file.
//! The [`store`] creates the nodes of listed names, and its [`table`] finds them by inode number. What
//! differs between two listings is counted as [`changes`].

pub(super) mod attributes;
pub(super) mod changes;
pub(super) mod dates;
pub(super) mod directory;
pub(super) mod file_text;
mod freshness;
pub(super) mod ino;
pub(super) mod listed_names;
pub(super) mod node;
pub(super) mod partial_listing;
pub(super) mod remote_file;
mod snapshot;
pub(super) mod store;
mod table;
pub(super) mod totals;
