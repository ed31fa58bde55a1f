//! What is kept for each origin, for [`MOST_ORIGINS`] of them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use url::Url;

use crate::http::{MOST_ORIGINS, Origin};

/// A value for each origin, made when it is first asked for. Beyond the maximum, values that are not in use are dropped
/// and made anew.
pub(crate) struct PerOrigin<T> {
    make: Box<dyn Fn(Origin) -> T + Send + Sync>,
    /// **`make` and the drop of a value run under it, and take no other lock.**
    all: Mutex<HashMap<Origin, Arc<T>>>,
}

impl<T: Default> Default for PerOrigin<T> {
    fn default() -> PerOrigin<T> {
        PerOrigin::new(|_| T::default())
    }
}

impl<T> PerOrigin<T> {
    pub(crate) fn new(make: impl Fn(Origin) -> T + Send + Sync + 'static) -> PerOrigin<T> {
        PerOrigin {
            make: Box::new(make),
            all: Mutex::default(),
        }
    }

    /// The value of this origin.
    pub(crate) fn of(&self, origin: &Origin) -> Arc<T> {
        let mut all = self.all.lock();
        if all.len() >= MOST_ORIGINS && !all.contains_key(origin) {
            all.retain(|_, value| Arc::strong_count(value) > 1);
        }
        let value = all
            .entry(origin.clone())
            .or_insert_with(|| Arc::new((self.make)(origin.clone())));
        Arc::clone(value)
    }

    /// The value of this URL's origin. A URL without an origin gets a value of its own, and its request fails anyway.
    pub(crate) fn of_url(&self, url: &Url) -> Arc<T> {
        Origin::of(url).map_or_else(|| Arc::new((self.make)(Origin::nowhere())), |origin| self.of(&origin))
    }

    /// The values that are kept now, with their origins.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Origin, Arc<T>)> + use<T> {
        let all: Vec<_> = self
            .all
            .lock()
            .iter()
            .map(|(origin, value)| (origin.clone(), Arc::clone(value)))
            .collect();
        all.into_iter()
    }

    /// The values that are kept now.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.all.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_use_outlive_the_maximum() {
        let values = PerOrigin::new(|origin| origin);
        let of = |port: usize| values.of_url(&Url::parse(&format!("http://h:{}/", port + 1)).unwrap());
        let kept = of(0);
        (1..3 * MOST_ORIGINS).for_each(|port| drop(of(port)));
        assert!(values.all().len() <= MOST_ORIGINS, "{}", values.all().len());
        assert!(Arc::ptr_eq(&kept, &of(0)));
        let elsewhere = Url::parse("ftp://h/f").unwrap();
        assert!(!Arc::ptr_eq(&values.of_url(&elsewhere), &values.of_url(&elsewhere)));
    }
}
