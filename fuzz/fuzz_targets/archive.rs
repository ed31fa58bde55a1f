//! The metadata of an item of the Internet Archive: whatever it is, its files have names that are path components and URLs of
//! http or https, or it is an error in words.

#![no_main]

use fetchfs::internals::documents;

libfuzzer_sys::fuzz_target!(|data: &[u8]| documents::archive(data));
