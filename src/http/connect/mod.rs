//! Connections: proxies, addresses, TLS, and the single pooled connection of a [`wire`]. `origin` decides how many
//! there are and which request uses which.

pub(crate) mod setup;
mod setup_error;
mod tls;
mod tls_sessions;
pub(crate) mod wire;

pub(crate) use setup_error::SetupError;
