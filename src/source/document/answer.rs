//! [`Answer`]: a document's bytes, from a server or from this machine.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use url::Url;

use crate::http::Validator;
use crate::origin::Document;
use crate::source::SourceError;
use crate::source::local::{LocalContent, path_of};

/// Maximum time to read a document on this machine.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A document, from wherever it comes.
pub(super) struct Answer {
    /// The base of relative URLs.
    pub(super) url: Url,
    pub(super) body: Vec<u8>,
    /// The document's own date.
    pub(super) modified: Option<SystemTime>,
    pub(super) validator: Validator,
}

impl Answer {
    /// A server's answer that others need, too.
    pub(super) fn of(document: &Document) -> Answer {
        Answer {
            url: document.url.clone(),
            body: document.body.clone(),
            modified: document.modified,
            validator: document.validator.clone(),
        }
    }

    /// A document on this machine, at most `most` bytes. What can be read only once is in `content`.
    ///
    /// # Errors
    /// If it can't be read, or is larger.
    pub(super) async fn of_local(url: &Url, content: Option<LocalContent>, most: u64) -> Result<Answer, SourceError> {
        let (body, modified) = match content {
            Some(LocalContent(content)) => (content.to_vec(), None),
            None => read(url, most)
                .await
                .map_err(|error| SourceError::unreadable(url, &error))?,
        };
        if body.len() as u64 > most {
            let most = bytesize::ByteSize(most).display().iec();
            let why = format!("it is larger than {most}; raise --max-listing-size");
            return Err(SourceError::not_a_listing(url, why));
        }
        Ok(Answer {
            url: url.clone(),
            body,
            modified,
            validator: Validator::None,
        })
    }
}

/// Reads one byte more than `most` of a file, and its date.
async fn read(url: &Url, most: u64) -> io::Result<(Vec<u8>, Option<SystemTime>)> {
    let path = path_of(url).ok_or(io::ErrorKind::NotFound)?;
    let reading = tokio::task::spawn_blocking(move || {
        let mut body = Vec::new();
        let file = File::open(path)?;
        let modified = file.metadata()?.modified().ok();
        file.take(most.saturating_add(1)).read_to_end(&mut body)?;
        Ok((body, modified))
    });
    // Its file system may be on a network.
    match tokio::time::timeout(READ_TIMEOUT, reading).await {
        Ok(read) => read?,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

impl From<Document> for Answer {
    fn from(document: Document) -> Answer {
        Answer {
            validator: document.validator,
            url: document.url,
            body: document.body,
            modified: document.modified,
        }
    }
}
