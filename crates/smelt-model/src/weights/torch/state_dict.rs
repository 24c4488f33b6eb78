//! From the objects of a pickle and the records of its archive to named tensors.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::place::{Place, StoredTensor, Strided};
use super::archive::Archive;
use super::value::{Object, Objects, Value, View};

/// Bytes of a name, those of the dicts around included.
const NAME_BYTES: usize = 1024;
/// Dicts within dicts.
const DEPTH: usize = 8;
/// Entries of all dicts together.
const ENTRIES: usize = 1 << 20;
/// How many times the file all of its tensors together may be, by sharing storages: tied weights share one
/// or two, a hostile file a thousand.
const SHARING: usize = 8;

/// The tensors that `objects` names, where they lie in `archive`.
pub(super) fn tensors(
    objects: &Objects<'_>,
    archive: &Archive<'_>,
) -> Result<BTreeMap<String, StoredTensor>, String> {
    if !matches!(objects.get(objects.root), Some(Object::Dict(_))) {
        return Err("its pickle is not a dict of tensors".to_owned());
    }
    let mut walk = Walk {
        objects,
        archive,
        big_endian: archive.is_big_endian()?,
        tensors: BTreeMap::new(),
        entries: 0,
        bytes: 0,
    };
    walk.dict("", objects.root, 0)?;
    Ok(walk.tensors)
}

struct Walk<'a> {
    objects: &'a Objects<'a>,
    archive: &'a Archive<'a>,
    big_endian: bool,
    tensors: BTreeMap<String, StoredTensor>,
    entries: usize,
    bytes: usize,
}

impl<'a> Walk<'a> {
    fn dict(&mut self, prefix: &str, value: Value<'a>, depth: usize) -> Result<(), String> {
        let objects = self.objects;
        match objects.get(value) {
            Some(Object::Dict(entries)) if depth < DEPTH => {
                for (key, value) in entries {
                    self.entry(prefix, *key, *value, depth)?;
                }
                Ok(())
            }
            Some(Object::Dict(_)) => Err(format!("its pickle nests more than {DEPTH} dicts")),
            Some(Object::Tensor(view)) => self.tensor(prefix, view),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, prefix: &str, key: Value<'a>, value: Value<'a>, depth: usize) -> Result<(), String> {
        self.entries += 1;
        if self.entries > ENTRIES {
            return Err(format!("its pickle has more than {ENTRIES} entries"));
        }
        // Numbers as keys are those of optimizers, which hold no weights.
        let Value::Text(key) = key else { return Ok(()) };
        if prefix.len() + key.len() >= NAME_BYTES {
            return Err(format!("its pickle has a name of over {NAME_BYTES} bytes"));
        }
        let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        self.dict(&name, value, depth + 1)
    }

    fn tensor(&mut self, name: &str, view: &View<'a>) -> Result<(), String> {
        let tensor = self.place(view).map_err(|reason| format!("tensor `{name}` {reason}"))?;
        let elements: usize = tensor.shape.iter().product();
        self.bytes = self.bytes.saturating_add(elements.saturating_mul(tensor.dtype.bitsize() / 8));
        if self.bytes > SHARING.saturating_mul(self.archive.file_bytes()) {
            return Err(format!("its tensors together are over {SHARING} times as large as the file"));
        }
        match self.tensors.insert(name.to_owned(), tensor) {
            None => Ok(()),
            Some(_) => Err(format!("tensor `{name}` is there twice")),
        }
    }

    /// Where the values of `view` lie, all of them within its storage.
    fn place(&self, view: &View<'a>) -> Result<StoredTensor, String> {
        let View { dtype, ref shape, ref strides, start, .. } = *view;
        let size = dtype.bitsize() / 8;
        let storage = self.storage(view)?;
        let stored = storage.len() / size;
        let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        // A stride of 0 would make much of little.
        let elements = elements.filter(|elements| *elements <= stored);
        let elements = elements.ok_or_else(|| format!("has shape {shape:?}, its storage {stored} values"))?;
        let last = shape.iter().zip(strides).try_fold(start, |last, (size, stride)| {
            last.checked_add(stride.checked_mul(size.saturating_sub(1))?)
        });
        if elements > 0 && last.is_none_or(|last| last >= stored) {
            return Err(format!("reaches beyond its storage of {stored} values"));
        }
        let place = if elements == 0 {
            Place::Whole(storage.start..storage.start)
        } else if is_row_major(shape, strides) && (!self.big_endian || size == 1) {
            let first = storage.start + start * size;
            Place::Whole(first..first + elements * size)
        } else {
            Place::Strided(Strided { storage, start, strides: strides.clone(), big_endian: self.big_endian })
        };
        Ok(StoredTensor { dtype, shape: shape.clone(), place })
    }

    /// The bytes of the storage of `view`.
    fn storage(&self, view: &View<'a>) -> Result<Range<usize>, String> {
        let storage = view.storage;
        let record = self.archive.record(&format!("data/{}", storage.key));
        let record = record.ok_or_else(|| format!("has no record `data/{}`", storage.key))?;
        let size = storage.dtype.map_or(1, |dtype| dtype.bitsize() / 8);
        let bytes = storage.elements.checked_mul(size).filter(|bytes| *bytes <= record.len());
        let bytes = bytes.ok_or_else(|| {
            format!("has a storage of {} values, its record {} bytes", storage.elements, record.len())
        })?;
        Ok(record.start..record.start + bytes)
    }
}

/// Its values follow each other, the last index fastest.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= size;
        fits
    })
}
