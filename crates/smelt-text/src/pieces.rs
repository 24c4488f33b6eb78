//! Cutting a text where its tokens cannot reach across.
//!
//! GPT-2's split pattern never puts a space or line feed behind a visible character into one token, so
//! the parts around such a place encode to the same ids as the whole. Other patterns are left alone:
//! text of an unknown tokenizer stays in one piece.

/// Text per parallel task: long enough to pay for the task, short enough to bound its memory.
const PIECE_BYTES: usize = 64 << 10;

/// The parts of `text`, some 64 KiB each, that GPT-2's split pattern keeps apart: encoded one by one
/// they give the ids of the whole, and a tokenizer learns the same from them.
pub fn byte_level_pieces(text: &str) -> impl Iterator<Item = &str> + Send + use<'_> {
    pieces(text, PIECE_BYTES, b" \n")
}

/// As [`byte_level_pieces`], cut in front of spaces alone: patterns after GPT-4's draw line feeds to
/// what is before them.
pub(crate) fn pieces_at_spaces(text: &str) -> impl Iterator<Item = &str> + Send + use<'_> {
    pieces(text, PIECE_BYTES, b" ")
}

/// Cuts `text` into parts of at least `piece_bytes` (but the last) in front of one of `blanks` behind a
/// visible ASCII character; a stretch without such a place stays whole.
fn pieces<'t>(
    text: &'t str,
    piece_bytes: usize,
    blanks: &'static [u8],
) -> impl Iterator<Item = &'t str> + Send + use<'t> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, remainder) = rest.split_at(first_cut(rest.as_bytes(), piece_bytes, blanks));
        rest = remainder;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The first place to cut at or after `earliest`, else the end.
///
/// Both neighbours are ASCII, so the place is a character boundary.
fn first_cut(text: &[u8], earliest: usize, blanks: &[u8]) -> usize {
    let cuts = |&at: &usize| text[at - 1].is_ascii_graphic() && blanks.contains(&text[at]);
    (earliest.max(1)..text.len()).find(cuts).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::{BpeTraining, Tokenizer, train_byte_level_bpe};

    fn cut(text: &str, piece_bytes: usize) -> Vec<&str> {
        pieces(text, piece_bytes, b" \n").collect()
    }

    #[test]
    fn cuts_only_in_front_of_a_space_behind_a_visible_character() {
        assert_eq!(cut("one two\n\nthree", 1), ["one", " two", "\n\nthree"]);
        assert_eq!(cut("one two\n\nthree", 4), ["one two", "\n\nthree"]);
        assert_eq!(cut("no-space-at-all", 3), ["no-space-at-all"]);
        assert_eq!(cut("é è", 1), ["é è"]);
        assert_eq!(cut("", 1), [""; 0]);
    }

    proptest! {
        /// Cut at every place where a cut is possible.
        #[test]
        fn pieces_encode_to_the_ids_of_the_whole(
            words in prop::collection::vec("[ab'!.é\\u{85}\\u{a0}]{0,9}[ \n\t\r\\u{3000}]{0,3}", 0..20)
        ) {
            let text = words.concat();
            let tokenizer = tokenizer();
            prop_assert_eq!(pieces(&text, 1, b" \n").collect::<String>(), text.as_str());
            let ids: Vec<u32> = pieces(&text, 1, b" \n").flat_map(|piece| tokenizer.encode(piece).unwrap()).collect();
            prop_assert_eq!(ids, tokenizer.encode(&text).unwrap());
        }
    }

    /// Has a token for every two neighbours that the split pattern does not keep apart.
    fn tokenizer() -> &'static Tokenizer {
        static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
            let letters =
                ["a", "b", "'", "!", ".", "é", "\u{85}", "\u{a0}", " ", "\n", "\t", "\r", "\u{3000}"];
            let pairs =
                letters.iter().flat_map(|first| letters.map(|second| format!("{first}{second}").repeat(3)));
            let training = BpeTraining { vocab_size: 1000, ..BpeTraining::default() };
            train_byte_level_bpe(pairs, &training).unwrap()
        });
        &TOKENIZER
    }
}
