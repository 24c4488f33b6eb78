//! Names of answers: `chatcmpl-...`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `prefix` with enough behind it to be met once only.
pub fn identifier(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    // Writing to a string cannot fail.
    let _ = write!(text, "{:024x}", rand::random::<u128>() >> 32);
    text
}

/// A name of nine letters and digits, which is what Mistral's templates take for a tool call.
pub fn call_identifier() -> String {
    let letter = || LETTERS[rand::random_range(0..LETTERS.len())];
    (0..9).map(|_| char::from(letter())).collect()
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
