//! Listings: how a directory's names are fetched, how a new listing replaces an old one, and names that no listing has.

mod early_names;
mod harmless_query;
mod kinds;
pub(super) mod listing_cache;
mod listing_request;
pub(super) mod listings;
mod lru;
pub(super) mod name_first;
pub(super) mod stored;
pub(super) mod unlisted;
