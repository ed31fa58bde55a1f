//! `-o`, as a person or fstab writes it: whatever it is, it becomes flags or an error in words.

#![no_main]

use std::sync::LazyLock;

use clap::Command;
use fetchfs::internals::{expand_options, mount_command};

static COMMAND: LazyLock<Command> = LazyLock::new(mount_command);

libfuzzer_sys::fuzz_target!(|data: &str| {
    match expand_options(&COMMAND, data) {
        Ok(flags) => assert!(flags.iter().all(|flag| flag.starts_with("--")), "{flags:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
