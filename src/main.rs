//! The `fetchfs` command. All of it is in the library; see [`fetchfs::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fetchfs::cli::run()
}
