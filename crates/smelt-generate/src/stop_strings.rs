//! Texts that end a generation, wherever the borders of tokens fall.

/// Watches streamed text for stop strings and holds back what may become one.
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What became of one piece of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopProgress {
    /// Text that is certain to come before any stop string.
    pub text: String,
    /// A stop string came; `text` ends before it, and the rest is dropped.
    pub stopped: bool,
}

impl StopStrings {
    /// Watches for any of `stops`; empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// Takes the next piece and gives out what can be shown.
    pub fn push(&mut self, piece: &str) -> StopProgress {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return StopProgress { text: std::mem::take(&mut self.held), stopped: true };
        }
        let kept = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        StopProgress { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// What was held back and became no stop string, at the end of the text.
    pub fn finish(self) -> String {
        self.held
    }
}

/// Bytes at the end of `text` that are the start of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).skip(1);
    starts.filter(|length| text.ends_with(&stop[..*length])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut watch = StopStrings::new(stops.iter().map(|stop| (*stop).to_owned()));
        let mut shown = String::new();
        for piece in pieces {
            let progress = watch.push(piece);
            shown.push_str(&progress.text);
            if progress.stopped {
                return (shown, true);
            }
        }
        (shown + &watch.finish(), false)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        assert_eq!(run(&["\n\n"], &["one\n", "\ntwo"]), ("one".to_owned(), true));
        assert_eq!(run(&["END"], &["an E", "N", "E", "ND x"]), ("an EN".to_owned(), true));
        assert_eq!(run(&["END"], &["an EN"]), ("an EN".to_owned(), false));
        assert_eq!(run(&[""], &["abc"]), ("abc".to_owned(), false));
        assert_eq!(run(&["é!"], &["caf", "é", "!"]), ("caf".to_owned(), true));
    }

    #[test]
    fn the_first_of_several_wins() {
        assert_eq!(run(&["cd", "b"], &["ab", "cd"]), ("a".to_owned(), true));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in "[ab\né]{0,30}",
            stops in proptest::collection::vec("[ab\né]{1,4}", 0..3),
            cuts in proptest::collection::vec(0usize..30, 0..6),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut borders: Vec<usize> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
            borders.extend([0, text.len()]);
            borders.sort_unstable();
            let pieces: Vec<&str> = borders.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let whole = stops.iter().filter_map(|stop| text.find(stop)).min();
            let expected = (text[..whole.unwrap_or(text.len())].to_owned(), whole.is_some());
            let found = run(&stops, &pieces);
            prop_assert_eq!(found.1, expected.1);
            // A stop string inside the start of another may end a stream that could not wait for the other.
            let inside = stops.iter().any(|a| stops.iter().any(|b| a != b && a.contains(b)));
            prop_assert!(found.0 == expected.0 || (inside && found.0.starts_with(&expected.0)));
        }
    }
}
