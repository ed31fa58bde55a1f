//! What a failure means, and when an origin may be asked again.
//!
//! - [`health`] is the circuit breaker of each origin: all requests share one pause and one probe.
//! - [`failure_attribution`] decides whether the resource, its origin, or the number or rate of requests is at fault.
//! - [`retry`] decides by that whether a request is sent again, and after which [pause](backoff).
//! - [`responsiveness`] is about an origin that has not failed but does not answer either.

pub(super) mod backoff;
pub(super) mod failure_attribution;
pub(super) mod health;
pub(crate) mod responsiveness;
pub(super) mod retry;
