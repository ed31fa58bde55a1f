//! Servers that people reported: each case is a small server (`tests/fixtures/cases/`) that bends one thing, and what a
//! reader gets from it. Each module holds the cases of one matter.

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
