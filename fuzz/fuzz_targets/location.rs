//! A redirect's Location.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fetchfs::internals::fuzzing::location(data));
