//! Runs a command that prints a secret.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum run time of a command. Commands that ask a person need seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum wait for the first line of a command that has ended. Only a program that it left behind in the background can
/// hold the pipe open for longer, without having written a line.
const REST: Duration = Duration::from_secs(2);

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
    let stdout = child.stdout.take().ok_or("it has no output")?;
    // A thread of its own, because a command may print more than a pipe holds, or close its output and go on.
    let (sender, printed) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        // The receiver is gone if the command has failed.
        let _ = sender.send(stdout.read_line(&mut line).map(|_| line));
        let _ = io::copy(&mut stdout, &mut io::sink());
    });
    end_of(&mut child)?;
    let line = match printed.recv_timeout(REST) {
        Ok(line) => line.map_err(|_| "its output is not text")?,
        Err(RecvTimeoutError::Timeout) => {
            return Err("a program that it left in the background keeps its output open".to_owned());
        }
        Err(RecvTimeoutError::Disconnected) => return Err("its output can't be read".to_owned()),
    };
    match line.lines().next() {
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
        // What stays in the background holds the pipe open.
        assert_eq!(first_line("sleep 3 & echo a").as_deref(), Ok("a"));
        assert!(first_line("sleep 3 &").is_err());
        assert!(first_line("head -c 300000 /dev/zero | tr '\\0' x").unwrap().len() == 300_000);
    }
}
