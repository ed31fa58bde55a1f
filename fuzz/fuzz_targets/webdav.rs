//! An answer to PROPFIND: whatever it is, each name is one component of a path, and each URL directly below the directory.

#![no_main]

use fetchfs::internals::documents;

libfuzzer_sys::fuzz_target!(|data: &[u8]| documents::webdav(data));
