//! The largest of many without sorting them all.

use std::cmp::Ordering;

use smelt_backend::{largest, smallest};

use super::candidates::{LANES, sum2};

/// Logits looked at before one of them is compared alone.
const CHUNK: usize = 32;

/// Masses that are added in f32 before they are in f64.
const BLOCK: usize = 64 * LANES;

/// So many items are put in order at once.
const FEW: usize = 256;

/// Keys, which are logarithms, that far below the largest hardly matter.
const WIDTH: f32 = 32.0;

/// How often the range of keys is halved.
const HALVINGS: usize = 11;

/// The `k`-th largest of `logits`, which holds at least `k` numbers; `buffer` is scratch space.
#[inline(always)]
pub(super) fn kth_largest(logits: &[f32], k: usize, buffer: &mut Vec<f32>) -> f32 {
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    let capacity = 2 * k + CHUNK;
    buffer.clear();
    // What lies below the k-th largest so far is out for good: after the first few, that is nearly all.
    let mut least = f32::NEG_INFINITY;
    for chunk in logits.chunks(CHUNK) {
        if largest(chunk) <= least {
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

/// What is chosen by its place in an order until a mass is reached: larger keys first, and of equals the
/// lower index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// What the order looks at first.
    pub key: f32,
    pub mass: f32,
    pub index: u32,
}

impl Item {
    pub(super) fn new(key: f32, mass: f32, index: u32) -> Self {
        // The total order of floats has a negative zero below zero; here they are equals.
        Self { key: key + 0.0, mass, index }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        other.key.total_cmp(&self.key).then(self.index.cmp(&other.index))
    }
}

/// The item with which `mass` is reached in the order of [`Item`], the last if it never is. None if there
/// are no keys. `items` is scratch space.
#[inline(always)]
pub(super) fn item_reaching(keys: &[f32], masses: &[f32], mass: f64, items: &mut Vec<Item>) -> Option<Item> {
    let range = if keys.len() > FEW { Range::reaching(keys, masses, mass) } else { Range::EVERYTHING };
    items.clear();
    let chunks = keys.chunks(CHUNK).zip(masses.chunks(CHUNK));
    for (start, (keys, masses)) in (0..).step_by(CHUNK).zip(chunks) {
        let near = |key: f32| (key >= range.low) & (key <= range.high);
        let mut any = false;
        for key in keys {
            any |= near(*key);
        }
        if any {
            let all = (start..).zip(keys.iter().zip(masses));
            let item = |(index, (key, mass)): (u32, (&f32, &f32))| Item::new(*key, *mass, index);
            items.extend(all.map(item).filter(|item| near(item.key)));
        }
    }
    first_reaching(items, mass - range.mass_above)
}

/// Between which keys a mass is reached.
struct Range {
    low: f32,
    high: f32,
    mass_above: f64,
}

impl Range {
    const EVERYTHING: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY, mass_above: 0.0 };

    /// Found by halving, with sums over all that are quick and rough, and then checked.
    #[inline(always)]
    fn reaching(keys: &[f32], masses: &[f32], mass: f64) -> Self {
        let mut high = largest(keys);
        let mut low = smallest(keys).next_down().max(high - WIDTH);
        for _ in 0..HALVINGS {
            let middle = low + (high - low) / 2.0;
            match rough_mass_above(keys, masses, middle) < mass {
                true => high = middle,
                false => low = middle,
            }
        }
        let mass_above_high = mass_above(keys, masses, high);
        let holds = mass_above_high < mass && mass_above(keys, masses, low) >= mass;
        if holds { Self { low, high, mass_above: mass_above_high } } else { Self::EVERYTHING }
    }
}

/// The sum of the masses whose key is above `border`.
#[inline(always)]
pub(super) fn mass_above(keys: &[f32], masses: &[f32], border: f32) -> f64 {
    sum2(keys, masses, |key, mass| counted(key, mass, border))
}

/// As [`mass_above`], but for the last digits of an f32.
#[inline(always)]
fn rough_mass_above(keys: &[f32], masses: &[f32], border: f32) -> f64 {
    let mut total = 0.0;
    for (keys, masses) in keys.chunks(BLOCK).zip(masses.chunks(BLOCK)) {
        let ((keys, last_keys), (masses, last_masses)) =
            (keys.as_chunks::<LANES>(), masses.as_chunks::<LANES>());
        let mut lanes = [0f32; LANES];
        for (keys, masses) in keys.iter().zip(masses) {
            for lane in 0..LANES {
                lanes[lane] += counted(keys[lane], masses[lane], border);
            }
        }
        for (lane, (key, mass)) in lanes.iter_mut().zip(last_keys.iter().zip(last_masses)) {
            *lane += counted(*key, *mass, border);
        }
        for lane in lanes {
            total += f64::from(lane);
        }
    }
    total
}

/// `mass` if `key` is above `border`, else 0; without a branch, which half of the keys would mispredict.
#[inline(always)]
fn counted(key: f32, mass: f32, border: f32) -> f32 {
    f32::from_bits(mass.to_bits() & 0u32.wrapping_sub(u32::from(key > border)))
}

/// As [`item_reaching`], of items in any order, which are put partly in order.
fn first_reaching(mut items: &mut [Item], mut mass: f64) -> Option<Item> {
    while items.len() > 1 {
        let middle = items.len() / 2;
        items.select_nth_unstable_by(middle, Item::compare);
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
            items in proptest::collection::vec((0u8..9, 1u8..9), 1..60),
            copies in prop::sample::select(vec![1usize, 20]),
            share in 0.01f64..1.0,
        ) {
            let items = items.repeat(copies);
            let (keys, masses): (Vec<f32>, Vec<f32>) =
                items.iter().map(|(key, mass)| (f32::from(*key).ln(), f32::from(*mass))).unzip();
            let mass = share * masses.iter().map(|mass| f64::from(*mass)).sum::<f64>();
            let found = item_reaching(&keys, &masses, mass, &mut Vec::new()).unwrap();
            let mut order: Vec<usize> = (0..keys.len()).collect();
            order.sort_by(|a, b| keys[*b].total_cmp(&keys[*a]));
            let mut sum = 0.0;
            let expected = order.into_iter().find(|index| {
                sum += f64::from(masses[*index]);
                sum >= mass
            });
            prop_assert_eq!(found.index as usize, expected.unwrap());
        }
    }
}
