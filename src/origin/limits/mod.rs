//! How many requests may be in flight at an origin, and which go first.
//!
//! | limit | of what | at most | how it adapts |
//! |---|---|---|---|
//! | [`connection_limit`] | connections in use or kept, for requests of every class | `--max-connections` | falls to what the server serves side by side, when it shuts new connections out |
//! | [`name_slots`] | requests for names | three quarters of `--max-connections`, and one; 8 at the beginning | halved by 429, 503 and 403; answers raise it slowly, and above 8 only if they are as quick as before |
//! | [`fetch_limit`] | requests for bytes | `--max-connections` | halved by refusals and broken answers; answers raise it slowly |
//! | [`request_rate`] | requests for bytes per second | none | longer intervals after refusals of several resources within seconds |
//!
//! The connection limit applies to every request, and **which class yields to which is decided there alone**: names come
//! before bytes, and may take a fetch's connection. A request gets there only within the limit of its class. The two
//! classes learn their limits separately, by the same rule ([`aimd`]): many servers limit generated listings and
//! metadata, and serve files without a limit.
//!
//! The client holds the connection limit and the name slots of each origin. The fetch scheduler holds the fetch limit
//! and the request rate, because it dispatches by them under its own lock. It learns from the client how many
//! connections the server serves.

mod aimd;
pub(super) mod connection_limit;
pub(super) mod fetch_limit;
mod lease_queue;
mod lease_state;
pub(super) mod name_slots;
pub(super) mod request_class;
pub(super) mod request_rate;
