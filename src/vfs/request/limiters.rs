//! The limiters of all origins.

use url::Url;

use super::limiter::Limiter;
use crate::http::Origin;
use crate::vfs::per_origin::PerOrigin;

/// One [`Limiter`] per origin, for as long as the process runs.
#[derive(Default)]
pub(super) struct Limiters(PerOrigin<&'static Limiter>);

impl Limiters {
    /// The limiter of the URL's origin. `None` for a URL that is none of HTTP.
    pub(super) fn of(&self, url: &Url) -> Option<&'static Limiter> {
        // Limiters are never freed, so their number is bounded: further origins share one.
        let of = |origin: &Origin| self.0.of(origin, || Box::leak(Box::new(Limiter::new(origin.clone()))));
        of(&Origin::of(url)?).or_else(|| of(&Origin::nowhere()))
    }
}
