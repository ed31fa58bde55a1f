//! A netrc file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| fetchfs::internals::fuzzing::netrc(data));
