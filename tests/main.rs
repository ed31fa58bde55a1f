//! Tests by promise: the guarantees of fetchfs, seen from outside through a kernel mount.
//!
//! Each module holds the promises of one topic. `common` mounts, serves and cleans up. `origin` is the server that
//! can misbehave; `origin_server` tests that server.
//!
//! The tests need /dev/fuse, and the web servers that they name (`scripts/install-deps.sh test`).

mod absent_names;
mod access;
mod access_patterns;
mod attributes;
mod cache;
mod cache_command;
mod cache_damage;
mod cache_space;
mod cache_startup;
mod cases;
mod changes;
mod changing_tree;
mod chaos;
mod churn;
mod common;
mod config_file;
mod control;
mod cookies;
mod crash;
mod data_listings;
mod disk_failures;
mod docs;
mod doctor;
mod documents;
mod explain;
mod filesystem;
mod fleet;
mod full_disk;
mod harness;
mod hashes;
mod hostile_servers;
mod interrupts;
mod library;
mod library_file;
mod local_directories;
mod logs;
mod mirrors;
mod mounting;
mod name_first;
mod names;
mod offline;
mod origin;
mod origin_server;
mod outages;
mod partial_listings;
mod passthrough;
mod pins;
mod prefetch_jobs;
mod prefetching;
mod quota;
mod reading;
mod real_servers;
mod refreshing;
mod responses;
mod retries;
mod revalidation;
mod s3;
mod scanners;
mod scheduling;
mod security;
mod server_limits;
mod settings;
mod sharing;
mod sizes;
mod status;
mod supervision;
mod tier;
mod tree_walks;
mod unmounting;
mod unprivileged;
mod webdav;
