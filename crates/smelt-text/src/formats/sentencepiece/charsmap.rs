//! The compiled map of characters in a SentencePiece model, checked before it is used.
//!
//! It is a double array (Darts) from spellings to places in a text of replacements. The crate that
//! applies it follows the array without looking at its end, so a damaged one has to be found here.

use serde_json::Value;
use tokenizers::normalizers::Precompiled;

/// A sound map.
pub struct Charsmap(Precompiled);

impl Charsmap {
    /// The map in `bytes`, unless it is damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (array, replacements) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let replacements = str::from_utf8(replacements).ok()?;
        let units: Vec<usize> = array
            .chunks_exact(4)
            .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]) as usize)
            .collect();
        check(&units, replacements)?;
        Precompiled::from(bytes).ok().map(Self)
    }

    /// The normalizer that applies it.
    pub fn into_normalizer(self) -> Value {
        serde_json::to_value(self.0).unwrap_or_default()
    }
}

/// None if a path leaves the array or a replacement its text.
fn check(units: &[usize], replacements: &str) -> Option<()> {
    let mut seen = vec![false; units.len()];
    let mut bases = vec![offset(*units.first()?)];
    while let Some(base) = bases.pop() {
        for byte in 1..=255 {
            let place = base ^ byte;
            let unit = *units.get(place)?;
            if unit & 0x8000_00FF != byte || std::mem::replace(&mut seen[place], true) {
                continue;
            }
            let next = place ^ offset(unit);
            if (unit >> 8) & 1 == 1 {
                let start = *units.get(next)? & 0x7FFF_FFFF;
                replacements.get(start..)?;
            }
            bases.push(next);
        }
    }
    Some(())
}

/// How far a unit's children are, by exclusive or.
fn offset(unit: usize) -> usize {
    (unit >> 10) << ((unit & (1 << 9)) >> 6)
}
