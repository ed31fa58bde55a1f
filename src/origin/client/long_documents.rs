//! Which documents are long, while they are read. A caller that needs only a part of a document can ask for that part by
//! itself instead of waiting.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use url::Url;

/// Size in bytes from which a document counts as long: an index of some 10,000 names, which takes a good line as long as
/// another request takes.
pub(super) const LONG: u64 = 1 << 20;

/// The long documents that are being read.
#[derive(Default)]
pub(super) struct LongDocuments {
    /// How often each is being read, by its URL without a query. Locked for the moment of a change.
    reading: Mutex<HashMap<Url, usize>>,
    /// Notified when a document turns out to be long.
    found: Notify,
}

/// Guard: a long document is being read.
#[derive(Debug)]
pub(super) struct Reading {
    documents: Arc<LongDocuments>,
    url: Url,
}

impl std::fmt::Debug for LongDocuments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongDocuments").finish_non_exhaustive()
    }
}

fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}

impl LongDocuments {
    /// The document at this URL turned out to be long.
    pub(super) fn note(self: &Arc<Self>, url: &Url) -> Reading {
        let url = without_query(url);
        *self.reading.lock().entry(url.clone()).or_default() += 1;
        self.found.notify_waiters();
        Reading {
            documents: Arc::clone(self),
            url,
        }
    }

    /// Returns once a long document at this URL is being read.
    pub(super) async fn wait(&self, url: &Url) {
        let url = without_query(url);
        loop {
            // Before the look: a document that is found after it is not missed.
            let found = self.found.notified();
            tokio::pin!(found);
            found.as_mut().enable();
            if self.reading.lock().contains_key(&url) {
                return;
            }
            found.await;
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut reading = self.documents.reading.lock();
        if let Some(count) = reading.get_mut(&self.url) {
            *count -= 1;
            if *count == 0 {
                reading.remove(&self.url);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_document_is_known_while_it_is_read() {
        let documents = Arc::new(LongDocuments::default());
        let (one, other) = (Url::parse("http://h/d/").unwrap(), Url::parse("http://h/e/").unwrap());
        let waiting = tokio::spawn({
            let (documents, one) = (Arc::clone(&documents), one.clone());
            async move { documents.wait(&one).await }
        });
        let first = documents.note(&Url::parse("http://h/d/?json").unwrap());
        waiting.await.unwrap();
        let second = documents.note(&one);
        drop(first);
        documents.wait(&one).await;
        drop(second);
        for url in [&one, &other] {
            assert!(futures_pending(documents.wait(url)).await, "{url}");
        }
    }

    async fn futures_pending(waiting: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = waiting => false,
            () = std::future::ready(()) => true,
        }
    }
}
