//! Commands of the user that print secrets.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::http::HttpErrorKind;

/// Maximum run time of a command. Commands that ask a person or a remote identity service need seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The output of a command, run by `/bin/sh`. `name` is what messages call it.
///
/// # Errors
/// `NoCredentials` with the last line of its standard error.
pub(crate) async fn run_command(command: &str, name: &str) -> Result<String, HttpErrorKind> {
    let no = |why: String| HttpErrorKind::NoCredentials(format!("{name} {why}"));
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, shell.output()).await {
        Err(_) => {
            let time = humantime::format_duration(PATIENCE);
            return Err(no(format!("has not ended within {time}")));
        }
        Ok(Err(error)) => return Err(no(format!("can't be run: {error}"))),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next_back().unwrap_or("without output").trim();
        let said: String = said.chars().take(200).collect();
        return Err(no(format!("failed ({}): {said}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| no("has an output that is not text".to_owned()))
}
