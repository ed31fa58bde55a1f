//! A listing in JSON or XML: whatever it is, each name is one component of a path, and each URL is directly below the directory's.

#![no_main]

use fetchfs::internals::documents;

libfuzzer_sys::fuzz_target!(|data: &[u8]| documents::data_listing(data));
