//! The head of an answer: its headers, Content-Range among them, and what is made of it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fetchfs::internals::fuzzing::head(data));
