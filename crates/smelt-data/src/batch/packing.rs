//! Which texts share a row: best fit, the longest first.
//!
//! As in "Fewer Truncations Improve Language Modeling" (Ding et al. 2024, arXiv:2404.10830): the rows come
//! out nearly full, and no text is cut that fits a row.

use std::collections::BTreeSet;

/// What lies in each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedRows<T> {
    /// Row after row.
    items: Vec<T>,
    /// Where each row begins in `items`, and at the end their count.
    starts: Vec<usize>,
}

impl<T> PackedRows<T> {
    /// Rows.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// What lies in a row.
    pub fn row(&self, row: usize) -> &[T] {
        &self.items[self.starts[row]..self.starts[row + 1]]
    }

    /// The same rows of something else.
    pub fn map<U>(self, item: impl FnMut(T) -> U) -> PackedRows<U> {
        PackedRows { items: self.items.into_iter().map(item).collect(), starts: self.starts }
    }
}

/// Lays texts of these lengths into rows of `row_length`; gives the numbers of the texts in each row.
///
/// # Panics
/// If a length is above `row_length`.
pub fn pack(lengths: &[usize], row_length: usize) -> PackedRows<usize> {
    let order = longest_first(lengths, row_length);
    let mut row_of = vec![0; lengths.len()];
    let mut rows = 0;
    // Rows by the room they have left, and which of these lists have an entry.
    let mut with_room: Vec<Vec<usize>> = vec![Vec::new(); row_length + 1];
    let mut rooms = BTreeSet::<usize>::new();
    for &text in &order {
        let length = lengths[text];
        let (row, room) = match rooms.range(length..).next().copied() {
            Some(room) => {
                let row = with_room[room].pop().expect("a listed room has a row");
                if with_room[room].is_empty() {
                    rooms.remove(&room);
                }
                (row, room)
            }
            None => {
                rows += 1;
                (rows - 1, row_length)
            }
        };
        row_of[text] = row;
        let left = room - length;
        with_room[left].push(row);
        rooms.insert(left);
    }
    gather(&order, &row_of, rows)
}

/// The numbers of the texts by falling length: a counting sort.
fn longest_first(lengths: &[usize], row_length: usize) -> Vec<usize> {
    let mut next = vec![0; row_length + 2];
    for &length in lengths {
        assert!(length <= row_length, "a text of {length} in rows of {row_length}");
        next[row_length - length + 1] += 1;
    }
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    let mut order = vec![0; lengths.len()];
    for (text, &length) in lengths.iter().enumerate() {
        let place = &mut next[row_length - length];
        order[*place] = text;
        *place += 1;
    }
    order
}

fn gather(order: &[usize], row_of: &[usize], rows: usize) -> PackedRows<usize> {
    let mut starts = vec![0; rows + 1];
    row_of.iter().for_each(|&row| starts[row + 1] += 1);
    for row in 0..rows {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let mut items = vec![0; order.len()];
    for &text in order {
        let place = &mut next[row_of[text]];
        items[*place] = text;
        *place += 1;
    }
    PackedRows { items, starts }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_is_in_one_row_and_every_row_holds_its_texts(
            row_length in 1_usize..50, lengths in prop::collection::vec(1_usize..50, 0..200)
        ) {
            let lengths: Vec<usize> = lengths.into_iter().map(|length| length.min(row_length)).collect();
            let packing = pack(&lengths, row_length);
            let mut texts: Vec<usize> = (0..packing.len()).flat_map(|row| packing.row(row)).copied().collect();
            texts.sort_unstable();
            prop_assert!(texts.into_iter().eq(0..lengths.len()));
            let filled: Vec<usize> = (0..packing.len())
                .map(|row| packing.row(row).iter().map(|&text| lengths[text]).sum())
                .collect();
            prop_assert!(filled.iter().all(|&filled| (1..=row_length).contains(&filled)));
            // No two rows could be one: at most one is filled by half or less.
            let half_empty = filled.iter().filter(|&&filled| 2 * filled <= row_length).count();
            prop_assert!(half_empty <= 1, "{filled:?}");
        }
    }

    #[test]
    fn the_longest_come_first_and_take_the_tightest_room() {
        let packing = pack(&[2, 7, 3, 6, 2], 10);
        let rows: Vec<&[usize]> = (0..packing.len()).map(|row| packing.row(row)).collect();
        assert_eq!(rows, [&[1, 2][..], &[3, 0, 4]]);
    }
}
