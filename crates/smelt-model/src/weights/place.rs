//! Where a file holds the values of a tensor, and how to make them row-major and little-endian.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use safetensors::Dtype;

/// One tensor of a file: what it is and where it lies. Both were checked against the file.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// Of its values as they are handed out.
    pub dtype: Dtype,
    /// Row-major.
    pub shape: Vec<usize>,
    /// Where they lie.
    pub place: Place,
}

/// Where the values lie.
#[derive(Debug, Clone)]
pub enum Place {
    /// These bytes are the values: row-major, little-endian.
    Whole(Range<usize>),
    /// Strides over the values in these bytes.
    Strided(Strided),
    /// The file holds them in another form.
    Made(Made),
}

/// Values that are worked out from a file each time they are asked for: blocks of a quantization, rows in
/// another order.
#[derive(Clone)]
pub struct Made {
    /// The bytes that are looked at, and maybe others between them.
    pub span: Range<usize>,
    /// How they are made.
    pub make: Arc<Make>,
}

/// From the bytes of a whole file to those of values: row-major, little-endian.
pub type Make = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("span", &self.span).finish_non_exhaustive()
    }
}

/// A view of a storage, as PyTorch keeps a transposed or sliced tensor.
#[derive(Debug, Clone)]
pub struct Strided {
    /// The bytes of the storage.
    pub storage: Range<usize>,
    /// Index of the first value.
    pub start: usize,
    /// Values from one index to the next, for each dimension.
    pub strides: Vec<usize>,
    /// The storage was written on a machine of the other byte order.
    pub big_endian: bool,
}

impl StoredTensor {
    /// Part `index` of it, along the first dimension.
    ///
    /// # Panics
    /// If it has no such part.
    pub(super) fn part(&self, index: usize) -> Self {
        let Some((parts, shape)) = self.shape.split_first().filter(|(parts, _)| index < **parts) else {
            panic!("part {index} of a {:?} tensor", self.shape);
        };
        let place = match &self.place {
            Place::Whole(range) => {
                let bytes = range.len() / parts;
                Place::Whole(range.start + index * bytes..range.start + (index + 1) * bytes)
            }
            Place::Strided(view) => Place::Strided(Strided {
                start: view.start + index * view.strides[0],
                strides: view.strides[1..].to_vec(),
                ..view.clone()
            }),
            Place::Made(made) => {
                let (parts, make) = (*parts, made.make.clone());
                let part = move |file: &[u8]| {
                    let whole = make(file);
                    let bytes = whole.len() / parts;
                    whole[index * bytes..(index + 1) * bytes].to_vec()
                };
                Place::Made(Made { span: made.span.clone(), make: Arc::new(part) })
            }
        };
        Self { dtype: self.dtype, shape: shape.to_vec(), place }
    }

    /// The bytes that hold its values, and maybe those of others.
    pub(super) fn range(&self) -> &Range<usize> {
        match &self.place {
            Place::Whole(range) => range,
            Place::Strided(view) => &view.storage,
            Place::Made(made) => &made.span,
        }
    }

    /// Its values out of `file`: row-major, little-endian, copied only where the file has them otherwise.
    pub(super) fn bytes<'a>(&self, file: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.place {
            Place::Whole(range) => Cow::Borrowed(&file[range.clone()]),
            Place::Made(made) => Cow::Owned((made.make)(file)),
            Place::Strided(view) => {
                let storage = &file[view.storage.clone()];
                Cow::Owned(match self.dtype.bitsize() / 8 {
                    1 => view.gather::<1>(storage, &self.shape),
                    2 => view.gather::<2>(storage, &self.shape),
                    4 => view.gather::<4>(storage, &self.shape),
                    _ => view.gather::<8>(storage, &self.shape),
                })
            }
        }
    }
}

impl Strided {
    fn gather<const N: usize>(&self, storage: &[u8], shape: &[usize]) -> Vec<u8> {
        let elements: usize = shape.iter().product();
        let mut gathered = Vec::with_capacity(N * elements);
        if elements > 0 {
            let steps: Vec<(usize, usize)> =
                shape.iter().copied().zip(self.strides.iter().copied()).collect();
            append(storage.as_chunks::<N>().0, self.start, &steps, &mut gathered);
        }
        if self.big_endian {
            gathered.as_chunks_mut::<N>().0.iter_mut().for_each(|value| value.reverse());
        }
        gathered
    }
}

/// Appends the values of all indices of `steps` (size and stride of each dimension), the last one fastest.
fn append<const N: usize>(
    values: &[[u8; N]],
    start: usize,
    steps: &[(usize, usize)],
    gathered: &mut Vec<u8>,
) {
    match steps {
        [] => gathered.extend(values[start]),
        [(size, 1)] => gathered.extend(values[start..start + size].as_flattened()),
        [(size, stride)] => {
            (0..*size).for_each(|index| gathered.extend(values[start + index * stride]));
        }
        [(size, stride), rest @ ..] => {
            (0..*size).for_each(|index| append(values, start + index * stride, rest, gathered));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], start: usize, strides: &[usize], big_endian: bool) -> Vec<u8> {
        let file: Vec<u8> = (0..24).collect();
        let strided = Strided { storage: 0..24, start, strides: strides.to_vec(), big_endian };
        let place = Place::Strided(strided);
        StoredTensor { dtype: Dtype::I16, shape: shape.to_vec(), place }.bytes(&file).into_owned()
    }

    #[test]
    fn views_become_row_major() {
        assert_eq!(view(&[2, 3], 0, &[1, 2], false), [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]);
        assert_eq!(view(&[2, 2], 5, &[2, 1], false), [10, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(view(&[], 7, &[], false), [14, 15]);
        assert_eq!(view(&[3], 0, &[0], false), [0, 1, 0, 1, 0, 1]);
        assert_eq!(view(&[2], 1, &[1], true), [3, 2, 5, 4]);
    }

    #[test]
    fn parts_are_taken_along_the_first_dimension() {
        let file: Vec<u8> = (0..24).collect();
        let whole = |place| StoredTensor { dtype: Dtype::I16, shape: vec![3, 2], place };
        let rows = whole(Place::Whole(4..16));
        assert_eq!(rows.part(1).shape, [2]);
        assert_eq!(*rows.part(1).bytes(&file), [8, 9, 10, 11]);
        let turned = Strided { storage: 0..24, start: 1, strides: vec![1, 3], big_endian: false };
        assert_eq!(*whole(Place::Strided(turned)).part(2).bytes(&file), [6, 7, 12, 13]);
    }

    #[test]
    fn nothing_is_gathered_from_an_empty_view_whatever_its_other_sizes() {
        assert!(view(&[usize::MAX, 0], 0, &[0, 1], false).is_empty());
    }
}
