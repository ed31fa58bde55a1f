//! One request to a server: over its redirects, with the credentials of each hop, on a leased connection.
//!
//! [`Transport`](transport::Transport) is the door for the [`Client`](super::Client) and what compares versions. It knows
//! nothing of files and versions.

pub(super) mod body;
pub(super) mod exchange;
pub(super) mod file_headers;
pub(super) mod redirect_chain;
pub(super) mod redirects;

pub(super) mod signers;
pub(super) mod sites;
pub(super) mod transport;
