//! fetchfs
pub mod cache;
pub mod cli;
pub mod config;
pub mod fuse;
pub mod http;
pub mod source;
pub mod tree;
