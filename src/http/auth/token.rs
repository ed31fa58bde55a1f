//! Bearer tokens: read from a file or a command, and renewed when they expire.
//!
//! The file's or the output's first line is the token. A second line may give its lifetime, as `30m` or in seconds; the
//! token is then renewed shortly before its end. A 401 from the server always renews it. When many requests learn at
//! once that a token has expired, one of them renews it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::command::run_command;
use crate::http::{HttpErrorKind, Secret};

/// Minimum time between two runs of a command after a 401. The server refuses a fresh token for another reason, and a
/// reader that retries would run the command each time.
const REST: Duration = Duration::from_secs(5);

/// A token is renewed when a tenth of its lifetime is left, at most this: clocks differ, and requests take time.
const LONGEST_MARGIN: Duration = Duration::from_secs(60);

/// Maximum bytes of a token. Real ones have some kilobytes at most, because servers refuse longer headers.
const LONGEST_TOKEN: usize = 64 << 10;

/// Where a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A fixed token.
    Given(Secret),
    /// A file, which may be rewritten at any time.
    File(PathBuf),
    /// The output of this command, run by `/bin/sh`. The command line may be a secret itself.
    Command(Secret),
}

/// A token, read when it is needed.
pub(crate) struct Token {
    source: TokenSource,
    /// Held while the token is read, so that it is read once.
    state: tokio::sync::Mutex<TokenState>,
}

#[derive(Default)]
struct TokenState {
    token: Option<Secret>,
    /// The token's serial number, from 1.
    generation: u64,
    /// When it was read.
    asked: Option<Instant>,
    /// When it must be read again.
    due: Option<Instant>,
}

impl Token {
    pub(super) fn new(source: TokenSource) -> Token {
        Token {
            source,
            state: tokio::sync::Mutex::default(),
        }
    }

    /// The token, and its serial number for [`Self::renew`].
    ///
    /// # Errors
    /// `NoCredentials` if no token is available.
    pub(super) async fn current(&self) -> Result<(Secret, u64), HttpErrorKind> {
        let mut state = self.state.lock().await;
        let is_due = state.due.is_some_and(|due| due <= Instant::now());
        match &state.token {
            Some(token) if !is_due => Ok((token.clone(), state.generation)),
            _ => {
                self.ask(&mut state).await?;
                let token = state.token.clone().unwrap_or_else(|| Secret::new(""));
                Ok((token, state.generation))
            }
        }
    }

    /// After a 401 for the token with this serial number: returns true if there is another one now.
    ///
    /// # Errors
    /// `NoCredentials` if no token is available.
    pub(super) async fn renew(&self, refused: u64) -> Result<bool, HttpErrorKind> {
        let mut state = self.state.lock().await;
        if state.generation != refused {
            return Ok(true);
        }
        let is_hopeless = match self.source {
            TokenSource::Given(_) => true,
            TokenSource::File(_) => false,
            TokenSource::Command(_) => state.asked.is_some_and(|asked| asked.elapsed() < REST),
        };
        if is_hopeless {
            return Ok(false);
        }
        let before = state.token.clone();
        self.ask(&mut state).await?;
        Ok(state.token != before)
    }

    async fn ask(&self, state: &mut TokenState) -> Result<(), HttpErrorKind> {
        let asked = Instant::now();
        let text = match &self.source {
            TokenSource::Given(token) => token.expose().to_owned(),
            TokenSource::File(path) => tokio::task::spawn_blocking({
                let path = path.clone();
                move || std::fs::read_to_string(path)
            })
            .await
            .map_err(|error| no(error.to_string()))?
            .map_err(|error| no(format!("the token file {} can't be read: {error}", path.display())))?,
            TokenSource::Command(command) => run_command(command.expose(), "the token command").await?,
        };
        let (token, good_for) = read(&text).map_err(|wrong| no(format!("{} {wrong}", self.source.name())))?;
        state.due = good_for.map(|time| asked + time - LONGEST_MARGIN.min(time / 10));
        state.token = Some(token);
        state.asked = Some(asked);
        state.generation += 1;
        log::debug!("a token was read, number {}", state.generation);
        Ok(())
    }
}

impl TokenSource {
    fn name(&self) -> &'static str {
        match self {
            TokenSource::Given(_) => "the token",
            TokenSource::File(_) => "the token file",
            TokenSource::Command(_) => "the output of the token command",
        }
    }
}

/// The token and its lifetime.
pub(crate) fn read(text: &str) -> Result<(Secret, Option<Duration>), &'static str> {
    let mut lines = text.lines().map(str::trim);
    let token = lines.next().unwrap_or_default();
    if token.is_empty() {
        return Err("has no token in its first line");
    }
    if token.len() > LONGEST_TOKEN || token.bytes().any(|byte| !(0x21..=0x7e).contains(&byte)) {
        return Err("has a first line that is not a token");
    }
    let time = match lines.next().filter(|line| !line.is_empty()) {
        None => None,
        Some(line) => {
            let seconds = line.parse().ok().map(Duration::from_secs);
            let time = seconds.or_else(|| humantime::parse_duration(line).ok());
            Some(time.ok_or("has a second line that is not a time, such as 30m or 1800")?)
        }
    };
    // Longer than any mount, and short enough for an `Instant`.
    let longest = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    Ok((Secret::new(token), time.map(|time| time.min(longest))))
}

fn no(why: String) -> HttpErrorKind {
    HttpErrorKind::NoCredentials(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Token {
        Token::new(TokenSource::Command(Secret::new(text)))
    }

    #[tokio::test]
    async fn token_is_read_once_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let counting = |rest: &str| {
            let log = folder.path().join(rest.len().to_string());
            command(&format!(
                "echo x >> {0}; echo token-$(wc -l < {0}); {rest}",
                log.display()
            ))
        };
        let lasting = counting("echo 1h");
        for _ in 0..3 {
            let (token, generation) = lasting.current().await.unwrap();
            assert_eq!((token.expose(), generation), ("token-1", 1));
        }
        let brief = counting("echo 0");
        brief.current().await.unwrap();
        assert_eq!(brief.current().await.unwrap().0.expose(), "token-2");
    }

    #[tokio::test]
    async fn after_a_refusal_the_file_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "old\n").unwrap();
        let token = Token::new(TokenSource::File(file.path().to_owned()));
        let (_, first) = token.current().await.unwrap();
        assert!(!token.renew(first).await.unwrap(), "it is the same one still");
        std::fs::write(file.path(), "new\n").unwrap();
        let (_, second) = token.current().await.unwrap();
        assert!(token.renew(second).await.unwrap());
        assert!(token.renew(second).await.unwrap(), "somebody else has renewed it");
        assert_eq!(token.current().await.unwrap().0.expose(), "new");
    }

    #[tokio::test]
    async fn token_command_runs_again_after_401() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let token = command(&format!("echo x >> {0}; echo token-$(wc -l < {0})", log.display()));
        let (_, first) = token.current().await.unwrap();
        assert!(!token.renew(first).await.unwrap(), "it was run a moment ago");
        token.state.lock().await.asked = Instant::now().checked_sub(REST);
        assert!(token.renew(first).await.unwrap());
        assert_eq!(token.current().await.unwrap().0.expose(), "token-2");
    }

    #[tokio::test]
    async fn failed_token_command_reports_why() {
        let why = async |text: &str| command(text).current().await.unwrap_err().to_string();
        assert!(
            why("echo locked >&2; exit 3")
                .await
                .ends_with("(exit status: 3): locked")
        );
        assert!(why("true").await.contains("no token in its first line"));
        assert!(why("echo two words").await.contains("not a token"));
        assert!(why("echo t; echo soon").await.contains("not a time"));
    }

    #[test]
    fn a_token_may_say_how_long_it_is_good() {
        let time = |text| read(text).unwrap().1;
        assert_eq!(time("t"), None);
        assert_eq!(time("t\n\n"), None);
        assert_eq!(time("t\n1800\n"), Some(Duration::from_secs(1800)));
        assert_eq!(time("t\n30m"), Some(Duration::from_secs(1800)));
        assert!(time("t\n18446744073709551615").is_some());
    }
}
