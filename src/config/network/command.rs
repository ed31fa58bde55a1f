//! Runs a command that prints a secret.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum run time of a command. Commands that ask a person need seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Interval of looks whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// The first line of output of a command, which `/bin/sh` runs.
///
/// # Errors
/// Why there is none. Without the command, which may be a secret itself.
pub(super) fn first_line(command: &str) -> Result<String, String> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = shell.spawn().map_err(|error| format!("it can't be run: {error}"))?;
    let mut stdout = child.stdout.take().ok_or("it has no output")?;
    // A thread of its own, because a command may print more than a pipe holds, or close its output and go on.
    let printed = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    end_of(&mut child)?;
    let text = printed.join().map_err(|_| "its output can't be read")?;
    let text = text.map_err(|_| "its output is not text")?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err("it printed nothing".to_owned()),
    }
}

fn end_of(child: &mut Child) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it failed ({status})")),
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK),
            Ok(None) => {
                // Whatever it leaves behind ends by itself.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "it has not ended within {}",
                    humantime::format_duration(PATIENCE)
                ));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_of_a_successful_command_counts() {
        assert_eq!(first_line("echo 'a b'; echo c").as_deref(), Ok("a b"));
        assert_eq!(
            first_line("echo a; exit 3"),
            Err("it failed (exit status: 3)".to_owned())
        );
        assert_eq!(first_line("true"), Err("it printed nothing".to_owned()));
        assert!(first_line("head -c 300000 /dev/zero | tr '\\0' x").unwrap().len() == 300_000);
    }
}
