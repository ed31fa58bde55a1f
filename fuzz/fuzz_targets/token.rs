//! A token file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| fetchfs::internals::fuzzing::token(data));
