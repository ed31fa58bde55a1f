//! Short forms for writing metrics.

use std::fmt::{Result, Write};

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Where metrics are written.
pub(super) struct Metrics<'a>(pub(super) DescriptorEncoder<'a>);

/// A label and its value.
pub(super) type Label<'a> = (&'static str, Value<'a>);

/// The value of a label, as any text may be. `prometheus-client` writes values as they are, so they are escaped here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a>(pub(super) &'a str);

impl EncodeLabelValue for Value<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result {
        for character in self.0.chars() {
            match character {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                other => encoder.write_char(other)?,
            }
        }
        Ok(())
    }
}

impl Metrics<'_> {
    /// A metric that only grows, without labels. The name is without `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    /// The same with a fraction.
    pub(super) fn counter_f64(&mut self, name: &str, help: &str, value: f64) -> Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    /// A metric that only grows, once for each set of labels.
    pub(super) fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], u64)>,
    ) -> Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        each(&mut metric, values, ConstCounter::new)
    }

    /// A metric that goes up and down, without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    /// The same with a fraction.
    pub(super) fn gauge_f64(&mut self, name: &str, help: &str, value: f64) -> Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    /// A histogram for each set of labels.
    pub(super) fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], Buckets)>,
    ) -> Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, Buckets { sum, count, counts }) in values {
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &counts, None)?;
        }
        Ok(())
    }

    /// A metric that goes up and down, once for each set of labels.
    pub(super) fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], f64)>,
    ) -> Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        each(&mut metric, values, ConstGauge::new)
    }
}

/// What a histogram has counted.
pub(super) struct Buckets {
    /// The sum of all values.
    pub(super) sum: f64,
    /// Their number.
    pub(super) count: u64,
    /// The upper bounds, and the number of values up to each and above the one before it. The last bound is `f64::MAX`.
    pub(super) counts: Vec<(f64, u64)>,
}

fn each<'l, const N: usize, V, M: EncodeMetric>(
    metric: &mut MetricEncoder<'_>,
    values: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    make: impl Fn(V) -> M,
) -> Result {
    for (labels, value) in values {
        make(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
