//! The largest of many without sorting them all.

use std::cmp::Ordering;

/// Logits looked at before one of them is compared alone.
const CHUNK: usize = 32;

/// The `k`-th largest of `logits`, which holds at least `k` numbers; `buffer` is scratch space.
pub(super) fn kth_largest(logits: &[f32], k: usize, buffer: &mut Vec<f32>) -> f32 {
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    let capacity = 2 * k + CHUNK;
    buffer.clear();
    // What lies below the k-th largest so far is out for good: after the first few, that is nearly all.
    let mut least = f32::NEG_INFINITY;
    for chunk in logits.chunks(CHUNK) {
        if !chunk.iter().fold(false, |any, logit| any | (*logit > least)) {
            continue;
        }
        buffer.extend(chunk.iter().filter(|logit| **logit > least));
        if buffer.len() + CHUNK > capacity {
            buffer.select_nth_unstable_by(k - 1, descending);
            buffer.truncate(k);
            least = buffer[k - 1];
        }
    }
    match buffer.len() < k {
        true => f32::NEG_INFINITY,
        false => *buffer.select_nth_unstable_by(k - 1, descending).1,
    }
}

/// What is chosen by its place in an order until a mass is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// What the order looks at first.
    pub key: f32,
    pub mass: f32,
    /// Decides between equal keys: the lower comes first.
    pub index: u32,
}

impl Item {
    /// Larger keys first.
    pub(super) fn descending(&self, other: &Self) -> Ordering {
        other.key.total_cmp(&self.key).then(self.index.cmp(&other.index))
    }

    /// Smaller keys first.
    pub(super) fn ascending(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.index.cmp(&other.index))
    }
}

/// The item with which the mass in the order of `compare` reaches `mass`, the last if it never does.
/// None if there are no items.
pub(super) fn item_reaching(
    mut items: &mut [Item],
    mut mass: f64,
    compare: impl Fn(&Item, &Item) -> Ordering,
) -> Option<Item> {
    while items.len() > 1 {
        let middle = items.len() / 2;
        items.select_nth_unstable_by(middle, &compare);
        let (first, rest) = items.split_at_mut(middle);
        let first_mass: f64 = first.iter().map(|item| f64::from(item.mass)).sum();
        if first_mass >= mass {
            items = first;
        } else {
            mass -= first_mass;
            items = rest;
        }
    }
    items.first().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_kth_largest_is_that_of_a_sort(
            mut logits in proptest::collection::vec(-4i8..4, 1..300),
            k in 1usize..300,
            ascending in any::<bool>(),
        ) {
            let k = k.min(logits.len());
            if ascending {
                logits.sort_unstable();
            }
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let mut sorted = logits.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(kth_largest(&logits, k, &mut Vec::new()), sorted[k - 1]);
        }

        #[test]
        fn the_mass_is_reached_where_a_sort_says(
            masses in proptest::collection::vec((0u8..9, 1u8..9), 1..60),
            share in 0.01f64..1.0,
        ) {
            let item = |(index, (key, mass)): (usize, &(u8, u8))| Item {
                key: (*key).into(), mass: (*mass).into(), index: index as u32,
            };
            let mut items: Vec<Item> = masses.iter().enumerate().map(item).collect();
            let total: f64 = items.iter().map(|item| f64::from(item.mass)).sum();
            let found = item_reaching(&mut items, share * total, Item::descending).unwrap();
            items.sort_by(Item::descending);
            let mut sum = 0.0;
            let expected = items.iter().find(|item| {
                sum += f64::from(item.mass);
                sum >= share * total
            });
            prop_assert_eq!(found.index, expected.unwrap().index);
        }
    }
}
