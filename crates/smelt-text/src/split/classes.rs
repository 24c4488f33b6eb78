//! Letters, numbers, blanks and the rest: what split patterns tell characters apart by.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as SyntaxClass, HirKind};

/// What a character counts as: `\p{L}`, `\p{N}`, `\s`, or none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Neither of the others: punctuation, symbols, marks, controls.
    Other,
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s`.
    Blank,
}

/// Code points per page of the table.
const PAGE: usize = 256;

/// The class of every character: pages of 256, equal pages stored once.
#[derive(Debug)]
pub struct Classes {
    page_of: Vec<u8>,
    pages: Vec<[Class; PAGE]>,
}

/// The table, made on first use.
pub static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::from_unicode);

impl Classes {
    fn from_unicode() -> Self {
        let mut classes = vec![Class::Other; char::MAX as usize + 1];
        for (pattern, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Blank)]
        {
            for (first, last) in ranges(pattern) {
                classes[first as usize..=last as usize].fill(class);
            }
        }
        let mut pages: Vec<[Class; PAGE]> = Vec::new();
        let page_of = classes.chunks_exact(PAGE).map(|page| {
            let at = pages.iter().position(|known| known == page).unwrap_or_else(|| {
                pages.push(page.try_into().expect("chunks have the length of a page"));
                pages.len() - 1
            });
            u8::try_from(at).expect("Unicode has fewer than 256 different pages of these classes")
        });
        Self { page_of: page_of.collect(), pages }
    }

    /// The class of `character`.
    pub fn of(&self, character: char) -> Class {
        let code = character as usize;
        self.pages[usize::from(self.page_of[code / PAGE])][code % PAGE]
    }
}

/// The code points that a one-class pattern matches.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    let parsed = regex_syntax::parse(pattern).expect("the pattern is a constant");
    match parsed.kind() {
        HirKind::Class(SyntaxClass::Unicode(class)) => {
            class.ranges().iter().map(|range| (range.start(), range.end())).collect()
        }
        other => unreachable!("`{pattern}` is a class of characters, not {other:?}"),
    }
}
