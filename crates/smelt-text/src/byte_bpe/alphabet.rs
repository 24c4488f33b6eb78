//! GPT-2's names of the bytes: every byte is spelled as one visible character.

use std::sync::LazyLock;

/// The character of each byte, by byte.
pub static BYTE_NAMES: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut unnamed = 0;
    std::array::from_fn(|byte| {
        let byte = u8::try_from(byte).expect("an index below 256");
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            return char::from(byte);
        }
        unnamed += 1;
        char::from_u32(255 + unnamed).expect("below the surrogates")
    })
});

/// The bytes that a token's spelling stands for; none if a character of it names no byte.
pub fn bytes_of(spelling: &str) -> Option<Vec<u8>> {
    spelling.chars().map(byte_of).collect()
}

/// The spelling of `bytes`.
pub fn spelling_of(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| BYTE_NAMES[usize::from(byte)]).collect()
}

fn byte_of(name: char) -> Option<u8> {
    static BYTES: LazyLock<[Option<u8>; 512]> = LazyLock::new(|| {
        let mut bytes = [None; 512];
        for (byte, name) in (0..=u8::MAX).zip(*BYTE_NAMES) {
            bytes[name as usize] = Some(byte);
        }
        bytes
    });
    *BYTES.get(name as usize)?
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn names_are_those_of_the_tokenizers_crate() {
        let names: std::collections::BTreeSet<char> = BYTE_NAMES.iter().copied().collect();
        assert_eq!(names, ByteLevel::alphabet().into_iter().collect());
        assert_eq!(spelling_of(b" a\n\xff"), "\u{120}a\u{10a}\u{ff}");
        assert_eq!(bytes_of("\u{120}a"), Some(b" a".to_vec()));
        assert_eq!(bytes_of("中"), None);
    }
}
