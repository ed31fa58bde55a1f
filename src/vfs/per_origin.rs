//! State that is kept for each origin.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::http::{MOST_ORIGINS, Origin};

/// One `T` per origin. Its clones share the state.
pub(super) struct PerOrigin<T> {
    /// Locked for a look-up only.
    states: Mutex<HashMap<Origin, T>>,
}

impl<T> Default for PerOrigin<T> {
    fn default() -> PerOrigin<T> {
        PerOrigin {
            states: Mutex::default(),
        }
    }
}

impl<T: Clone> PerOrigin<T> {
    /// The state of an origin; `make` creates it at the first call. `None` once [`MOST_ORIGINS`] others have one, but
    /// never for [`Origin::nowhere`].
    pub(super) fn of(&self, origin: &Origin, make: impl FnOnce() -> T) -> Option<T> {
        let mut states = self.states.lock();
        let is_full = states.len() >= MOST_ORIGINS && *origin != Origin::nowhere();
        if is_full && !states.contains_key(origin) {
            return None;
        }
        Some(states.entry(origin.clone()).or_insert_with(make).clone())
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn number_of_states_is_bounded() {
        let states = PerOrigin::default();
        let of = |port: usize| {
            let url = Url::parse(&format!("http://h:{}/", port + 1)).unwrap();
            states.of(&Origin::of(&url).unwrap(), || port)
        };
        assert!((0..MOST_ORIGINS).all(|port| of(port) == Some(port)));
        assert_eq!((of(MOST_ORIGINS), of(0)), (None, Some(0)));
        assert_eq!(states.of(&Origin::nowhere(), || 7), Some(7));
    }
}
