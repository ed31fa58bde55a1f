//! `--http-listen`: a status page, metrics and a health check over HTTP, served by the process of the mount.
//!
//! | path | what it is |
//! |---|---|
//! | `/` | the status page: one HTML file with a script and a style sheet beside it, which asks for `/live.json` |
//! | `/metrics` | what is counted, for Prometheus ([`metrics`]) |
//! | `/healthz` | whether the mount does its work, as `fetchfs status --check` says it |
//!
//! It is off by default. What holds:
//!
//! - **It only reads.** GET and HEAD are all there is, and no request starts work for the mount beyond a measurement.
//! - **[`access`] decides first**, by the Host header and the token; other machines always need a token.
//! - **No client can harm the mount**: connections, heads and times are bounded ([`server`]), and one measurement runs at a
//!   time.
//! - No secret is in an answer: what is shown is the status that the control socket has, whose URLs are redacted.

mod access;
mod answers;
mod config;
mod listener;
mod metrics;
mod server;

pub(crate) use config::{HostName, ListenAddress, SHORTEST_TOKEN, WebConfig};
pub(crate) use listener::Listener;
pub(crate) use server::{Serving, serve};
