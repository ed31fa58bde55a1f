//! A list of URLs: whatever it is, its files have names that are path components and URLs of http or https, or it is an error in words.

#![no_main]

use fetchfs::internals::documents;

libfuzzer_sys::fuzz_target!(|data: &[u8]| documents::list(data));
