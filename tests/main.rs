//! Tests by promise: the guarantees of fetchfs, seen from outside through a kernel mount.
//!
//! Each module holds the promises of one topic. `common` mounts, serves and cleans up. `origin` is the server that
//! can misbehave; `origin_itself` tests that server.
//!
//! The tests need /dev/fuse, and the web servers that they name (`scripts/install-deps.sh test`).

mod access;
mod answers;
mod beginnings;
mod cache;
mod cache_command;
mod cases;
mod changes;
mod chaos;
mod churn;
mod common;
mod config_file;
mod control;
mod crash;
mod crowded;
mod disks;
mod filesystem;
mod full_disk;
mod harmed;
mod harness_itself;
mod hostile;
mod jobs;
mod keeping;
mod library;
mod logs;
mod mirrors;
mod mounting;
mod names;
mod offline;
mod ordinary_users;
mod origin;
mod origin_itself;
mod outages;
mod passthrough;
mod patterns;
mod prefetching;
mod quota;
mod reading;
mod real_servers;
mod retries;
mod room;
mod scheduling;
mod security;
mod sharing;
mod shifting;
mod sizes;
mod unmounting;
mod waits;
mod walking;
