//! The keys that sign requests, and their renewal.
//!
//! Keys in files are read again from time to time, because other programs replace temporary ones. A command of the user
//! (`credential_process`) is run again before its keys expire. Requests that are signed meanwhile wait for it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::S3Config;
use super::settings::{self, Credentials, KeySource};
use crate::http::{HttpErrorKind, Secret, run_command};

/// Time after which keys in files are read again.
const REREAD: Duration = Duration::from_secs(30);

/// Keys are renewed so long before they expire, or after nine tenths of their time.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// What signs the requests of one bucket.
pub(super) struct Keyring {
    config: S3Config,
    /// The directory in which the process was started. A daemon leaves it.
    directory: PathBuf,
    /// **Held while keys are renewed**, so that they are renewed once.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: Option<Credentials>,
    read: Option<Instant>,
    /// When they are to be renewed, and when they are good for nothing.
    due: Option<Timestamp>,
    expires: Option<Timestamp>,
}

impl Known {
    /// The keys, if they need not be renewed yet.
    fn fresh(&self, now: Timestamp) -> Option<Credentials> {
        let is_fresh = match self.due {
            Some(due) => now < due,
            None => self.read.is_some_and(|read| read.elapsed() < REREAD),
        };
        self.keys.clone().filter(|_| is_fresh)
    }

    /// The keys, if they are still good.
    fn good(&self, now: Timestamp) -> Option<Credentials> {
        self.keys.clone().filter(|_| self.expires.is_none_or(|at| now < at))
    }
}

impl Keyring {
    /// A keyring without keys, which are read at the first request.
    pub(super) fn new(config: S3Config, directory: PathBuf) -> Keyring {
        Keyring {
            config,
            directory,
            known: Mutex::default(),
        }
    }

    /// The keys for a request that is sent now; `None` if requests are not signed.
    ///
    /// # Errors
    /// `NoCredentials`, which says why there are none.
    pub(super) async fn current(&self) -> Result<Option<Credentials>, HttpErrorKind> {
        let mut known = self.known.lock().await;
        let now = Timestamp::now();
        if let Some(keys) = known.fresh(now) {
            return Ok(Some(keys));
        }
        match self.renewed(now).await {
            Ok(None) => Ok(None),
            Ok(Some(renewed)) => {
                *known = renewed;
                Ok(known.keys.clone())
            }
            // A file may be read while it is replaced.
            Err(error) => known.good(now).map(Some).ok_or(error),
        }
    }

    /// The keys of now; `None` if requests are not signed.
    async fn renewed(&self, now: Timestamp) -> Result<Option<Known>, HttpErrorKind> {
        let (config, directory) = (self.config.clone(), self.directory.clone());
        let found = tokio::task::spawn_blocking(move || settings::of_process(&config, &directory).keys);
        let found = found
            .await
            .map_err(|panic| HttpErrorKind::NoCredentials(panic.to_string()))?;
        let mut known = Known {
            read: Some(Instant::now()),
            ..Known::default()
        };
        match found.map_err(HttpErrorKind::NoCredentials)? {
            KeySource::Unsigned => return Ok(None),
            KeySource::Given(keys) => known.keys = Some(keys),
            KeySource::Process { command, profile } => {
                let name = format!("credential_process of the profile `{profile}`");
                let output = run_command(command.expose(), &name).await?;
                let wrong = |why| HttpErrorKind::NoCredentials(format!("the output of {name} {why}"));
                let (keys, expires) = read_output(&output).map_err(wrong)?;
                if expires.is_some_and(|at| at <= now) {
                    return Err(wrong("has keys that have expired"));
                }
                // Without a date they are good for ever, as AWS documents it.
                let due = expires.map_or(Timestamp::MAX, |at| {
                    let left = at.duration_since(now);
                    at.checked_sub(MARGIN.min(left / 10)).unwrap_or(at)
                });
                (known.keys, known.due, known.expires) = (Some(keys), Some(due), expires);
            }
        }
        Ok(Some(known))
    }
}

/// Reads a text as AWS's files and as the output of a `credential_process`. For fuzz targets.
#[cfg(any(test, fuzzing))]
pub(in crate::source) fn read_any(text: &str) {
    settings::read_any(text);
    let _ = read_output(text);
}

/// The output of a `credential_process`, in AWS's form.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    version: u64,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Reads the output of a `credential_process`: the keys, and when they expire.
pub(super) fn read_output(text: &str) -> Result<(Credentials, Option<Timestamp>), &'static str> {
    // The parser's message may contain the secret.
    let output: Output =
        serde_json::from_str(text).map_err(|_| "is not JSON with Version, AccessKeyId and SecretAccessKey")?;
    if output.version != 1 {
        return Err("has another Version than 1");
    }
    let expires = match output.expiration {
        Some(date) => Some(date.parse().map_err(|_| "has an Expiration that is not a date")?),
        None => None,
    };
    let keys = Credentials {
        access_key: output.access_key_id,
        secret_key: Secret::new(output.secret_access_key),
        session_token: output.session_token.filter(|token| !token.is_empty()).map(Secret::new),
    };
    Ok((keys, expires))
}
