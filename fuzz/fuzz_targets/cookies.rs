//! A cookie file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| fetchfs::http::fuzzing::cookies(data));
