//! AWS's files and the output of a `credential_process`: whatever they are, they are read or refused.

#![no_main]

use fetchfs::internals::documents;

libfuzzer_sys::fuzz_target!(|data: &[u8]| documents::aws(data));
