//! Requests for names and metadata: retries, deadlines, mirrors. They know nothing of nodes.
//!
//! Listings, look-ups and opens send all their requests through [`Requests::ask`](requests::Requests::ask). How hard a
//! request tries depends on its [`Urgency`](urgency::Urgency). A mirror is asked where [`mirror_lookup`]
//! allows it.

pub(super) mod mirror_lookup;
pub(super) mod requests;
mod tries;
pub(super) mod urgency;
