//! Servers from bug reports: each case is a small server (`tests/fixtures/cases/`) with one peculiarity, and what a
//! reader gets from it. Each module holds the cases of one topic.

mod answers;
mod connections;
mod head;
mod listings;
mod names;
mod neighbours;
mod pages;
mod process;
mod redirects;
mod versions;
