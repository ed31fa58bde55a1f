//! The confidence in a walk, and how much to prefetch for it.

use crate::vfs::nodes::listed_names::Order;

/// Steps in order that prove a walk. One proves nothing: many programs open a directory and its first sub-directory.
const PROOF: u32 = 2;

/// Confidence in a walk: the number of consecutive steps in order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace(u32);

impl Pace {
    pub(super) fn after(self, in_order: bool) -> Pace {
        if in_order {
            Pace(self.0.saturating_add(1))
        } else {
            Pace(0)
        }
    }

    /// The orders that the next step may follow: `order`, and at a walk's beginning either.
    pub(super) fn orders(self, order: Order) -> impl Iterator<Item = Order> {
        let other = match order {
            Order::Listed => Order::Numbered,
            Order::Numbered => Order::Listed,
        };
        [Some(order), (self.0 < PROOF).then_some(other)].into_iter().flatten()
    }

    /// How many to prefetch, at most `bound`.
    pub(super) fn ahead(self, bound: usize) -> usize {
        if self.0 < PROOF {
            0
        } else {
            (1usize << (self.0 - PROOF + 2).min(16)).min(bound)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_depth_doubles_in_order_and_resets() {
        let mut pace = Pace::default();
        let mut seen = Vec::new();
        for _ in 0..7 {
            pace = pace.after(true);
            seen.push(pace.ahead(32));
        }
        assert_eq!(seen, [0, 4, 8, 16, 32, 32, 32]);
        assert_eq!(pace.after(false).ahead(32), 0);
        assert_eq!(Pace(u32::MAX).after(true).ahead(32), 32);
    }
}
