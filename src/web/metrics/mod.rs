//! `/metrics`: what is counted, in the text formats of Prometheus.
//!
//! [`mount`] says what the metrics are, from one [`Status`]; [`process`] adds those of the process that every exporter has.
//! `prometheus-client` writes OpenMetrics. Scrapers that do not ask for that get the older text format ([`classic`]), which
//! tools and people know.
//!
//! **The number of series is bounded.** Labels are fixed words (programs choose their names, so they are summed by class), HTTP statuses that have a name, sources of the library's
//! file, and origins, of which fetchfs tracks a limited number, and of which [`MOST_ORIGINS`] are shown. A file is never a
//! label.

mod classic;
mod encode;
mod mount;
mod process;
mod programs;
mod tier;

use http::HeaderMap;
use http::header::ACCEPT;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use crate::control::status::Status;

/// Most origins with metrics of their own: those with the most requests. A mount of mirrors has a few dozens.
const MOST_ORIGINS: usize = 100;

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Version 0.0.4 of Prometheus's own.
    Classic,
    /// Version 1.0.0 of OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The one that a request asks for by its Accept header.
    pub(super) fn wanted(headers: &HeaderMap) -> Format {
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        match accepted.any(|value| value.contains("application/openmetrics-text")) {
            true => Format::OpenMetrics,
            false => Format::Classic,
        }
    }

    /// Its media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of a mount in this state.
pub(super) fn of(status: &Status, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Measured(status.clone())));
    let mut written = String::new();
    // Writing to a string can't fail.
    let _ = text::encode(&mut written, &registry);
    match format {
        Format::OpenMetrics => written,
        Format::Classic => classic::of(&written),
    }
}

#[derive(Debug)]
struct Measured(Status);

impl Collector for Measured {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut metrics = encode::Metrics(encoder);
        mount::encode(&mut metrics, &self.0)?;
        process::encode(&mut metrics)
    }
}

#[cfg(test)]
mod tests;
