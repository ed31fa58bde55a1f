//! A page of a bucket's listing: whatever it is, each name is one component of a path, and each URL directly below the
//! directory.

#![no_main]

use fetchfs::internals::documents;

libfuzzer_sys::fuzz_target!(|data: &[u8]| documents::s3(data));
