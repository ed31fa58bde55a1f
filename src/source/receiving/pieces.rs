//! The pieces of a document that is being received, for a parser on a thread that may wait.

use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::early_names::EarlyNames;

/// The document was not received to its end.
#[derive(Debug)]
pub(in crate::source) struct CutOff;

/// The pieces of a document, in order. While it waits for the next one, names that were read so far are passed on.
pub(in crate::source) struct Pieces {
    beginning: Option<Bytes>,
    /// `None` is the end of the document. A channel that closes before it belongs to a document that is cut off.
    receiver: Receiver<Option<Bytes>>,
    runtime: Handle,
}

impl Pieces {
    /// Must be called in a runtime.
    pub(super) fn new(beginning: Bytes, receiver: Receiver<Option<Bytes>>) -> Pieces {
        Pieces {
            beginning: Some(beginning),
            receiver,
            runtime: Handle::current(),
        }
    }

    /// The next piece; `None` after the last one. Blocks until it is received.
    pub(in crate::source) fn next(&mut self, early: &EarlyNames) -> Result<Option<Bytes>, CutOff> {
        if let Some(beginning) = self.beginning.take() {
            return Ok(Some(beginning));
        }
        loop {
            let due = early.due_in();
            if due == Some(Duration::ZERO) {
                early.pass_on();
                continue;
            }
            let next = match due {
                None => self.receiver.blocking_recv(),
                Some(due) => match self
                    .runtime
                    .block_on(async { timeout(due, self.receiver.recv()).await })
                {
                    Ok(next) => next,
                    // The names are due.
                    Err(_) => continue,
                },
            };
            return next.ok_or(CutOff);
        }
    }
}
