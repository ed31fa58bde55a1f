//! Connections: proxies, addresses, TLS, and one pooled connection as [`wire`] sees it.

pub(crate) mod setup;
pub(crate) mod tls;
pub(crate) mod wire;
