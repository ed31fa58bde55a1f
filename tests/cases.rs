//! Servers from bug reports: each case is a small server (`tests/fixtures/cases/`) with one peculiarity, and what a
//! reader gets from it. Each module holds the cases of one topic.

mod connections;
mod head;
mod isolation;
mod listings;
mod names;
mod pages;
mod process;
mod redirects;
mod responses;
mod versions;
