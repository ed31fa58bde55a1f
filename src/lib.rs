//! fetchfs
pub mod cache;
pub mod cli;
pub mod config;
pub mod fuse;
pub mod http;
pub mod logging;
pub mod mount;
pub mod source;
pub mod tree;
