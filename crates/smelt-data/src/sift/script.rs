//! Which scripts are bash, by the grammar of tree-sitter.
//!
//! As `bash -n` does this finds broken files, but by degree: the grammar does not know every corner of
//! the language, so a script is left out only where a tenth of its lines do not parse.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use tree_sitter::{Node, Parser};

use crate::Reason;
use crate::corpus::is_for_bash;

/// Share of the lines that errors may touch.
const MAX_ERROR_LINES: f64 = 0.1;

/// Why the script that began in the file at `path` is left out, if it is.
pub fn judge(path: &Path, text: &str) -> Option<Reason> {
    if !is_for_bash(path, text) {
        return Some(Reason::OtherShell);
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    let is_broken = error_lines(text).is_none_or(|errors| errors as f64 > MAX_ERROR_LINES * lines as f64);
    is_broken.then_some(Reason::SyntaxErrors)
}

/// Number of lines that errors touch; None if the parser gives up.
fn error_lines(text: &str) -> Option<usize> {
    thread_local! {
        static PARSER: RefCell<Parser> = RefCell::new(bash_parser());
    }
    let tree = PARSER.with_borrow_mut(|parser| parser.parse(text, None))?;
    let mut lines = BTreeSet::new();
    if tree.root_node().has_error() {
        collect_error_lines(tree.root_node(), &mut lines);
    }
    Some(lines.len())
}

fn bash_parser() -> Parser {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_bash::LANGUAGE.into()).expect("the grammar is of the parser's version");
    parser
}

/// Goes down to the smallest nodes with errors: a node of errors may span the whole file, while only
/// the tokens directly in it are those that found no place.
fn collect_error_lines(root: Node<'_>, lines: &mut BTreeSet<usize>) {
    let mut cursor = root.walk();
    let mut waiting = vec![root];
    while let Some(node) = waiting.pop() {
        if node.is_missing() {
            lines.insert(node.start_position().row);
        } else if node.is_error() && node.child_count() == 0 {
            lines.extend(node.start_position().row..=node.end_position().row);
        }
        if !node.has_error() {
            continue;
        }
        for child in node.children(&mut cursor) {
            if node.is_error() && child.child_count() == 0 {
                lines.extend(child.start_position().row..=child.end_position().row);
            }
            waiting.push(child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Option<Reason> {
        judge(Path::new("script"), text)
    }

    #[test]
    fn scripts_pass_and_keep_their_comments() {
        let script = "#!/usr/bin/env bash\n# Says hello.\nset -euo pipefail\nfor name in \"$@\"; do\n    \
            if [[ $name == a* ]]; then echo \"hello ${name^}\"; fi\ndone\ncat <<'END'\ntext\nEND\n";
        assert_eq!(judged(script), None);
    }

    #[test]
    fn other_languages_and_broken_scripts_do_not() {
        let python = "import os\n\nclass A:\n    def f(self, x):\n        return {x: (1, 2)}\n\nfor i in range(3): print(i)\n";
        assert_eq!(judged(python), Some(Reason::SyntaxErrors));
        let broken = "if true; then\n  for x in 1 2; do\n    case $x in (\n  }}\n  )) done fi esac\n";
        assert_eq!(judged(broken), Some(Reason::SyntaxErrors));
        assert_eq!(judged("#!/bin/zsh\necho\n"), Some(Reason::OtherShell));
    }

    #[test]
    fn one_odd_line_in_many_is_forgiven() {
        let script = format!("{}echo $((\n", "echo one\n".repeat(60));
        let found = judged(&script);
        assert_eq!(found, None);
    }
}
