//! The records of a zip archive of `torch.save`.
//!
//! PyTorch stores records uncompressed, so that they can be mapped, and so this reads nothing else: there
//! is no decompression that a bomb could abuse, no record is copied, and records that overlap are refused.
//! A zip crate would bring decoders and a stateful reader for these few tables.
//! Format: PKWARE's APPNOTE.TXT, 4.3 and 4.5.3 (zip64, for archives over 4 GB).

use std::collections::BTreeMap;
use std::ops::Range;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const END: &[u8; 4] = b"PK\x05\x06";
const END_64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR_64: &[u8; 4] = b"PK\x06\x07";

const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const LOCATOR_64_BYTES: usize = 20;
/// The longest comment that may follow the end record.
const COMMENT_BYTES: usize = u16::MAX as usize;
/// Says that the number is in the zip64 field.
const SEE_64: u64 = u32::MAX as u64;
/// Tag of that field among the extra ones.
const EXTRA_64: u64 = 1;
/// The flag of encrypted records.
const ENCRYPTED: u64 = 1;

/// Name and place of a record.
type Entry<'a> = (&'a str, Range<usize>);

/// Where each record of an archive lies in its file.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    file: &'a [u8],
    /// By names without the folder that all of them share.
    records: BTreeMap<&'a str, Range<usize>>,
}

/// `file` begins like an archive.
pub(super) fn is_archive(file: &[u8]) -> bool {
    file.starts_with(LOCAL)
}

impl<'a> Archive<'a> {
    /// Reads the table of records of `file`.
    pub(super) fn open(file: &'a [u8]) -> Result<Self, String> {
        let directory = directory(file).ok_or("it has no table of records; the file may be cut short")?;
        let entries = entries(file, directory)?;
        let root = entries.iter().find_map(|(name, _)| name.strip_suffix("data.pkl")).unwrap_or_default();
        let mut records = BTreeMap::new();
        for (name, range) in &entries {
            let name = name.strip_prefix(root).unwrap_or(name);
            if records.insert(name, range.clone()).is_some() {
                return Err(format!("the record `{name}` is there twice"));
            }
        }
        Ok(Self { file, records })
    }

    /// Where the record `name` lies.
    pub(super) fn record(&self, name: &str) -> Option<Range<usize>> {
        self.records.get(name).cloned()
    }

    /// Bytes of the whole file.
    pub(super) fn file_bytes(&self) -> usize {
        self.file.len()
    }

    /// Its numbers have the byte order of big-endian machines.
    pub(super) fn is_big_endian(&self) -> Result<bool, String> {
        match self.record("byteorder").map(|range| &self.file[range]) {
            // Before PyTorch 2.1 nothing was said, and little-endian meant.
            None | Some(b"little") => Ok(false),
            Some(b"big") => Ok(true),
            Some(_) => Err("its record `byteorder` is neither `little` nor `big`".to_owned()),
        }
    }
}

/// Where the table of records lies.
fn directory(file: &[u8]) -> Option<Range<usize>> {
    let last = file.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(COMMENT_BYTES);
    let end = (first..=last).rev().find(|at| file[*at..].starts_with(END))?;
    let locator = end.checked_sub(LOCATOR_64_BYTES).filter(|at| file[*at..].starts_with(LOCATOR_64));
    let (bytes, start) = match locator {
        Some(locator) => {
            let end = usize::try_from(number::<8>(file, locator + 8)?).ok()?;
            file.get(end..)?.starts_with(END_64).then_some(())?;
            (number::<8>(file, end.checked_add(40)?)?, number::<8>(file, end.checked_add(48)?)?)
        }
        None => (number::<4>(file, end + 12)?, number::<4>(file, end + 16)?),
    };
    range(file, start, bytes)
}

/// Name and place of every record in the table `directory`.
fn entries(file: &[u8], directory: Range<usize>) -> Result<Vec<Entry<'_>>, String> {
    let mut table = &file[directory];
    let mut entries = Vec::new();
    while !table.is_empty() {
        let (entry, rest) = entry(file, table)?;
        entries.push(entry);
        table = rest;
    }
    let mut places: Vec<&Entry<'_>> = entries.iter().collect();
    places.sort_by_key(|(_, range)| range.start);
    match places.windows(2).find(|pair| pair[0].1.end > pair[1].1.start) {
        Some(pair) => Err(format!("its records `{}` and `{}` overlap", pair[0].0, pair[1].0)),
        None => Ok(entries),
    }
}

/// The first record of `table`, and the table after it.
fn entry<'a>(file: &'a [u8], table: &'a [u8]) -> Result<(Entry<'a>, &'a [u8]), String> {
    let damaged = || "its table of records is damaged".to_owned();
    if !table.starts_with(CENTRAL) || table.len() < CENTRAL_BYTES {
        return Err(damaged());
    }
    let short = |at| number::<2>(table, at).map(|length| length as usize).ok_or_else(damaged);
    let (name_bytes, extra_bytes, comment_bytes) = (short(28)?, short(30)?, short(32)?);
    let (name, rest) = table[CENTRAL_BYTES..].split_at_checked(name_bytes).ok_or_else(damaged)?;
    let (extra, rest) = rest.split_at_checked(extra_bytes).ok_or_else(damaged)?;
    let rest = rest.get(comment_bytes..).ok_or_else(damaged)?;
    let name = str::from_utf8(name).map_err(|_| damaged())?;
    let long = |at| number::<4>(table, at).ok_or_else(damaged);
    let (mut stored, mut whole, mut start) = (long(20)?, long(24)?, long(42)?);
    let mut extra = extra_64(extra);
    for number in [&mut whole, &mut stored, &mut start] {
        if *number == SEE_64 {
            (*number, extra) = (self::number::<8>(extra, 0).ok_or_else(damaged)?, &extra[8..]);
        }
    }
    if short(8)? as u64 & ENCRYPTED != 0 {
        return Err(format!("its record `{name}` is encrypted"));
    }
    if short(10)? != 0 || stored != whole {
        return Err(format!("its record `{name}` is compressed, which `torch.save` never does"));
    }
    let place = place(file, start, stored);
    Ok(((name, place.ok_or_else(|| format!("its record `{name}` lies outside of the file"))?), rest))
}

/// The zip64 field among the extra ones, empty if there is none.
fn extra_64(mut extra: &[u8]) -> &[u8] {
    while let (Some(tag), Some(length)) = (number::<2>(extra, 0), number::<2>(extra, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(length as usize) else { break };
        if tag == EXTRA_64 {
            return field;
        }
        extra = rest;
    }
    &[]
}

/// Where the `bytes` of the record lie whose local header begins at `start`.
fn place(file: &[u8], start: u64, bytes: u64) -> Option<Range<usize>> {
    let header = range(file, start, LOCAL_BYTES as u64)?;
    file[header.clone()].starts_with(LOCAL).then_some(())?;
    let skipped = number::<2>(file, header.start + 26)? + number::<2>(file, header.start + 28)?;
    range(file, header.end as u64 + skipped, bytes)
}

/// `bytes` of `file` from `start` on, if it has them.
fn range(file: &[u8], start: u64, bytes: u64) -> Option<Range<usize>> {
    let end = start.checked_add(bytes).filter(|end| *end <= file.len() as u64)?;
    Some(start as usize..end as usize)
}

/// The little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let raw: &[u8; N] = bytes.get(at..)?.first_chunk()?;
    Some(raw.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
