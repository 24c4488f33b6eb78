//! Rules on Rust code, each stated as the thing that must not be there.

use super::Finding;
use super::source::Source;

const BACKENDS: [&str; 7] = ["metal", "candle", "wgpu", "cuda", "ndarray", "cpu", "accelerate"];
const BACKEND_CRATE: &str = "crates/smelt-backend/";

/// Only these talk to people: the binary, these chores, and the programs in `examples/`.
const PRINTING: [&str; 3] = ["crates/smelt-cli/", "xtask/", "examples/"];

const VAGUE_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

type Rule = fn(&Source<'_>) -> Vec<Finding>;

const RULES: [Rule; 7] =
    [backend_conditions, printing, unfinished, bare_ignores, unsafe_code, vague_names, missing_header];

/// Every rule on one file.
pub fn check(source: &Source<'_>) -> Vec<Finding> {
    RULES.iter().flat_map(|rule| rule(source)).collect()
}

/// No crate but `smelt-backend` is compiled differently for a backend.
fn backend_conditions(source: &Source<'_>) -> Vec<Finding> {
    if source.path.starts_with(BACKEND_CRATE) {
        return Vec::new();
    }
    let conditions = source.words().filter(|(_, word)| *word == "feature").filter_map(|(offset, word)| {
        let rest = source.text[offset + word.len()..].trim_start().strip_prefix('=')?;
        let name = rest.trim_start().strip_prefix('"')?.split('"').next()?;
        BACKENDS.contains(&name).then(|| {
            let message =
                format!("condition on backend `{name}`; only smelt-backend may tell backends apart");
            Finding::new(source.path, source.line(offset), message)
        })
    });
    conditions.collect()
}

/// No library prints or ends the process.
fn printing(source: &Source<'_>) -> Vec<Finding> {
    if PRINTING.iter().any(|start| source.path.starts_with(start)) {
        return Vec::new();
    }
    let macros = ["print", "println", "eprint", "eprintln"];
    let calls = macros.iter().flat_map(|name| source.macro_calls(name));
    let paths = ["process::exit", "io::stdout", "io::stderr"];
    let uses = paths.iter().flat_map(|path| source.code.match_indices(path)).map(|(offset, _)| offset);
    let places = calls.chain(uses).filter(|&offset| !source.is_test(offset));
    let message = "only smelt-cli and xtask print or end the process; return it or use `tracing`";
    places.map(|offset| Finding::new(source.path, source.line(offset), message)).collect()
}

/// No stub and no debugging output.
fn unfinished(source: &Source<'_>) -> Vec<Finding> {
    let names = ["todo", "unimplemented", "dbg"];
    let calls = names.iter().flat_map(|name| source.macro_calls(name).map(move |offset| (offset, name)));
    calls
        .map(|(offset, name)| {
            Finding::new(source.path, source.line(offset), format!("`{name}!` left behind"))
        })
        .collect()
}

/// No test is ignored without the hardware it needs being named.
fn bare_ignores(source: &Source<'_>) -> Vec<Finding> {
    let places = source.code.match_indices("#[ignore]");
    let message = "`#[ignore]` without a reason; name the hardware the test needs";
    places.map(|(offset, _)| Finding::new(source.path, source.line(offset), message)).collect()
}

/// No `unsafe` outside of kernels and memory maps, and none without its reason.
fn unsafe_code(source: &Source<'_>) -> Vec<Finding> {
    let Some((offset, _)) = source.words().find(|(_, word)| *word == "unsafe") else {
        return Vec::new();
    };
    let finding = |message: &str| vec![Finding::new(source.path, source.line(offset), message)];
    let maps_memory = source.words().any(|(_, word)| word == "memmap2");
    if !source.path.starts_with(BACKEND_CRATE) && !maps_memory {
        return finding("`unsafe` outside of smelt-backend and of files that map memory");
    }
    let has_reason = source.text.contains("SAFETY:") || source.text.contains("# Safety");
    if has_reason { Vec::new() } else { finding("`unsafe` without a `SAFETY:` comment") }
}

/// No module whose name says nothing of what it holds.
fn vague_names(source: &Source<'_>) -> Vec<Finding> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let vague = parts.filter(|part| VAGUE_NAMES.contains(part));
    vague
        .map(|part| Finding::new(source.path, 0, format!("a module named `{part}`; name what it holds")))
        .collect()
}

/// No file of a crate without a header that says what it is.
fn missing_header(source: &Source<'_>) -> Vec<Finding> {
    let in_crate = source.path.starts_with("crates/") || source.path.starts_with("xtask/");
    if !in_crate || source.text.trim_start().starts_with("//!") {
        return Vec::new();
    }
    vec![Finding::new(source.path, 1, "no `//!` header; say what the module is and what it is not")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(rule: Rule, path: &str, text: &str) -> usize {
        rule(&Source::new(path, text)).len()
    }

    #[test]
    fn a_backend_condition_is_found_outside_of_smelt_backend() {
        let text = r#"#[cfg(all(unix, feature = "metal"))] fn f() {}"#;
        assert_eq!(findings(backend_conditions, "crates/smelt-train/src/lib.rs", text), 1);
        assert_eq!(findings(backend_conditions, "crates/smelt-backend/src/lib.rs", text), 0);
        let in_code = r#"if cfg!(feature="cuda") {}"#;
        assert_eq!(findings(backend_conditions, "crates/smelt-cli/src/main.rs", in_code), 1);
    }

    #[test]
    fn other_features_and_mentions_are_no_backend_conditions() {
        let text = "#[cfg(feature = \"serde\")] // feature = \"metal\"\nconst A: &str = \"feature = \\\"metal\\\"\";";
        assert_eq!(findings(backend_conditions, "crates/smelt-train/src/lib.rs", text), 0);
    }

    #[test]
    fn printing_is_found_in_libraries_but_not_in_their_tests() {
        for text in ["println!(\"x\")", "eprint!(\"x\")", "std::process::exit(1)", "let s = io::stdout();"] {
            let text = format!("fn f() {{ {text}; }}");
            assert_eq!(findings(printing, "crates/smelt-data/src/lib.rs", &text), 1, "{text}");
            assert_eq!(findings(printing, "crates/smelt-cli/src/main.rs", &text), 0, "{text}");
            let test = format!("#[cfg(test)] mod tests {{ {text} }}");
            assert_eq!(findings(printing, "crates/smelt-data/src/lib.rs", &test), 0, "{text}");
        }
    }

    #[test]
    fn stubs_are_found_and_their_names_are_not() {
        let path = "crates/x/src/lib.rs";
        assert_eq!(findings(unfinished, path, "fn f() { todo!() }"), 1);
        assert_eq!(findings(unfinished, path, "fn f() { unimplemented!(\"x\"); dbg!(1); }"), 2);
        assert_eq!(findings(unfinished, path, "fn todo() -> bool { todo != 1 } // todo!()"), 0);
    }

    #[test]
    fn an_ignored_test_needs_a_reason() {
        let path = "crates/x/tests/metal.rs";
        assert_eq!(findings(bare_ignores, path, "#[test]\n#[ignore]\nfn f() {}"), 1);
        assert_eq!(findings(bare_ignores, path, "#[test]\n#[ignore = \"needs a Mac\"]\nfn f() {}"), 0);
    }

    #[test]
    fn unsafe_needs_a_place_and_a_reason() {
        let reasoned = "// SAFETY: the file is ours\nunsafe { g() }";
        assert_eq!(findings(unsafe_code, "crates/smelt-train/src/lib.rs", reasoned), 1);
        assert_eq!(findings(unsafe_code, "crates/smelt-backend/src/simd.rs", reasoned), 0);
        assert_eq!(findings(unsafe_code, "crates/smelt-backend/src/simd.rs", "unsafe { g() }"), 1);
        let map = "use memmap2::Mmap;\n// SAFETY: read-only\nunsafe { Mmap::map(&file) }";
        assert_eq!(findings(unsafe_code, "crates/smelt-data/src/shard.rs", map), 0);
        assert_eq!(findings(unsafe_code, "crates/x/src/lib.rs", "#![deny(unsafe_code)]"), 0);
    }

    #[test]
    fn vague_module_names_are_found() {
        assert_eq!(findings(vague_names, "crates/x/src/utils.rs", ""), 1);
        assert_eq!(findings(vague_names, "crates/x/src/common/mod.rs", ""), 1);
        assert_eq!(findings(vague_names, "crates/x/src/rotary.rs", ""), 0);
    }

    #[test]
    fn a_header_is_asked_of_every_module() {
        assert_eq!(findings(missing_header, "crates/x/src/lib.rs", "use std::fs;"), 1);
        assert_eq!(findings(missing_header, "crates/x/src/lib.rs", "//! Names.\nuse std::fs;"), 0);
        assert_eq!(findings(missing_header, "examples/train.rs", "fn main() {}"), 0);
    }
}
