//! Sizes: a file or function that grows past them holds a second idea.

use super::Finding;
use super::source::{Source, block_end};

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;
const MAP_LINES: usize = 250;

/// No Rust file or script over 800 lines; ARCHITECTURE.md stays under 250.
pub fn check_file(path: &str, text: &str) -> Option<Finding> {
    let most = match path {
        "ARCHITECTURE.md" => MAP_LINES,
        _ if [".rs", ".sh", ".py"].iter().any(|ending| path.ends_with(ending)) => FILE_LINES,
        _ => return None,
    };
    let lines = text.lines().count();
    (lines > most).then(|| Finding::new(path, 0, format!("{lines} lines; the most is {most}")))
}

/// No function over 70 lines, tests excepted.
pub fn check_functions(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let words: Vec<(usize, &str)> = source.words().collect();
    for pair in words.windows(2) {
        let [(start, "fn"), (_, name)] = *pair else { continue };
        // The type of a pointer to a function has no name, and no body.
        if source.code[start..].starts_with("fn(") {
            continue;
        }
        let Some(end) = block_end(&source.code, start) else { continue };
        let first = source.line(start);
        let lines = source.line(end - 1) - first + 1;
        if lines > FUNCTION_LINES && !source.is_test(start) {
            let message = format!("function `{name}` has {lines} lines; the most is {FUNCTION_LINES}");
            findings.push(Finding::new(source.path, first, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_functions(text: &str) -> usize {
        check_functions(&Source::new("crates/x/src/lib.rs", text)).len()
    }

    #[test]
    fn a_pointer_to_a_function_is_none() {
        let text =
            format!("struct S {{ f: fn(u8) -> u8 }}\nimpl S {{\n{}}}\n", "    const A: u8 = 1;\n".repeat(80));
        assert_eq!(long_functions(&text), 0);
    }

    #[test]
    fn a_function_of_71_lines_is_found() {
        let body = |lines: usize| format!("pub fn f(x: u8) -> u8 {{\n{}}}\n", "    x;\n".repeat(lines - 2));
        assert_eq!(long_functions(&body(70)), 0);
        assert_eq!(long_functions(&body(71)), 1);
        assert_eq!(long_functions(&format!("#[test]\n{}", body(71))), 0);
    }

    #[test]
    fn pointers_and_declarations_are_no_functions() {
        let filler = "\n".repeat(80);
        assert_eq!(long_functions(&format!("trait T {{ fn f(&self); }}{filler}type F = fn(u8) -> u8;")), 0);
    }

    #[test]
    fn a_file_of_801_lines_is_found() {
        assert!(check_file("crates/x/src/lib.rs", &"\n".repeat(800)).is_none());
        assert!(check_file("crates/x/src/lib.rs", &"\n".repeat(801)).is_some());
        assert!(check_file("ARCHITECTURE.md", &"\n".repeat(251)).is_some());
        assert!(check_file("README.md", &"\n".repeat(801)).is_none());
    }
}
