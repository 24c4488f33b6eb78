//! What kind of text a file holds, by its first line and its name.
//!
//! A rough sorting for choosing files out of a system's folders, not a language detector.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::DataError;

/// The kind of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Scripts for sh, bash and their kin.
    Shell,
    /// Programs in other languages.
    Code,
    /// Text for people: `.txt`, `.md`, `README`, manual pages.
    Prose,
    /// Text for machines: markup, tables, settings, translations.
    Data,
    /// Anything else that is text.
    Other,
}

impl FileKind {
    const NAMES: [(&'static str, Self); 5] = [
        ("shell", Self::Shell),
        ("code", Self::Code),
        ("prose", Self::Prose),
        ("data", Self::Data),
        ("other", Self::Other),
    ];

    /// The kind of the file at `path` that begins with `text`; a `#!` line outweighs the name.
    pub fn of(path: &Path, text: &str) -> Self {
        if let Some(interpreter) = shebang_interpreter(text) {
            return if SHELLS.contains(&interpreter) { Self::Shell } else { Self::Code };
        }
        let lower = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
        };
        let (name, extension) = (lower(path.file_name()), lower(path.extension()));
        let by_extension = [
            (Self::Shell, SHELL_EXTENSIONS),
            (Self::Prose, PROSE_EXTENSIONS),
            (Self::Code, CODE_EXTENSIONS),
            (Self::Data, DATA_EXTENSIONS),
        ];
        let by_name = [(Self::Shell, SHELL_NAMES), (Self::Prose, PROSE_NAMES), (Self::Code, CODE_NAMES)];
        let found = by_extension.into_iter().find(|(_, known)| known.contains(&extension.as_str()));
        found
            .or_else(|| by_name.into_iter().find(|(_, known)| known.contains(&name.as_str())))
            .map_or_else(|| if is_manual_page(path) { Self::Prose } else { Self::Other }, |(kind, _)| kind)
    }
}

/// Whether the script at `path` that begins with `text` is for bash or a shell whose scripts bash runs.
///
/// A `#!` line decides; without one, the extension does. Where neither says, it may be one.
pub fn is_for_bash(path: &Path, text: &str) -> bool {
    match shebang_interpreter(text) {
        Some(interpreter) => BASH_LIKE.contains(&interpreter),
        None => {
            !matches!(path.extension().and_then(|one| one.to_str()), Some("zsh" | "fish" | "csh" | "tcsh"))
        }
    }
}

/// A file such as `man1/ls.1` or `man3/printf.3p`.
fn is_manual_page(path: &Path) -> bool {
    let in_section = path.parent().and_then(Path::file_name).is_some_and(|folder| {
        folder.as_encoded_bytes().starts_with(b"man") && folder.as_encoded_bytes().len() > 3
    });
    let is_section = |extension: &std::ffi::OsStr| {
        extension.as_encoded_bytes().first().is_some_and(|first| first.is_ascii_digit())
    };
    in_section && path.extension().is_some_and(is_section)
}

/// The program named by a `#!` line, without its folder; what `env` runs where it names `env`.
fn shebang_interpreter(text: &str) -> Option<&str> {
    let line = text.strip_prefix("#!")?.lines().next()?;
    let mut words = line.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    match words.next()? {
        "env" => words.find(|word| !word.starts_with('-') && !word.contains('=')),
        program => Some(program),
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, kind)| kind == self).map_or("other", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for FileKind {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            DataError::InvalidOption {
                name: "kind",
                value: format!("`{name}`"),
                expected: "`shell`, `code`, `prose`, `data` or `other`",
            }
        })
    }
}

const BASH_LIKE: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "mksh", "bats"];
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "bats"];
const SHELL_EXTENSIONS: &[&str] =
    &["sh", "bash", "dash", "ash", "ksh", "zsh", "bats", "command", "ebuild", "eclass"];
const SHELL_NAMES: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_aliases",
    ".bash_logout",
    ".profile",
    ".zshrc",
    ".zprofile",
    "pkgbuild",
    "apkbuild",
];
const PROSE_EXTENSIONS: &[&str] =
    &["txt", "text", "md", "markdown", "rst", "adoc", "asciidoc", "org", "tex", "texi"];
const PROSE_NAMES: &[&str] = &[
    "readme",
    "license",
    "licence",
    "copying",
    "copyright",
    "authors",
    "contributors",
    "thanks",
    "news",
    "changes",
    "changelog",
    "history",
    "todo",
    "install",
    "faq",
    "bugs",
    "maintainers",
];
const CODE_EXTENSIONS: &[&str] = &[
    "awk", "bas", "c", "cc", "clj", "cmake", "cpp", "cs", "css", "cxx", "d", "dart", "el", "erl", "ex",
    "exs", "f90", "fish", "go", "h", "hpp", "hs", "java", "jl", "js", "jsx", "kt", "lisp", "lua", "m", "mjs",
    "mk", "ml", "nim", "pas", "php", "pl", "pm", "ps1", "py", "r", "rb", "rs", "scala", "scm", "sed", "sql",
    "swift", "tcl", "ts", "tsx", "v", "vim", "zig",
];
const CODE_NAMES: &[&str] = &["makefile", "gnumakefile", "dockerfile", "rakefile", "gemfile", "justfile"];
const DATA_EXTENSIONS: &[&str] = &[
    "cfg", "conf", "csv", "desktop", "dtd", "eps", "geojson", "htm", "html", "ini", "json", "lock", "log",
    "map", "po", "pot", "ppd", "ps", "rng", "svg", "toml", "tsv", "xhtml", "xml", "xsd", "xsl", "yaml",
    "yml",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_outweighs_the_name() {
        let cases = [
            ("bin/run", "#!/bin/sh\n", FileKind::Shell),
            ("bin/run", "#! /usr/bin/env -S FOO=1 bash -e\n", FileKind::Shell),
            ("bin/run", "#!/usr/bin/env python3\n", FileKind::Code),
            ("notes.txt", "#!/bin/bash", FileKind::Shell),
            ("notes.txt", "#!", FileKind::Prose),
            ("setup.SH", "set -e\n", FileKind::Shell),
            ("home/.bashrc", "alias l=ls\n", FileKind::Shell),
            ("doc/README", "Hello\n", FileKind::Prose),
            ("doc/copyright", "Format: 1.0\n", FileKind::Prose),
            ("Makefile", "all:\n", FileKind::Code),
            ("icon.svg", "<svg/>", FileKind::Data),
            ("hosts", "127.0.0.1 localhost\n", FileKind::Other),
            ("man/man1/ls.1", ".TH LS 1\n", FileKind::Prose),
            ("lib/man1.2", "1.2\n", FileKind::Other),
        ];
        for (path, text, kind) in cases {
            assert_eq!(FileKind::of(Path::new(path), text), kind, "{path}: {text:?}");
        }
    }

    #[test]
    fn shells_are_told_apart() {
        let cases = [
            ("run", "#!/bin/dash\n", true),
            ("run", "#!/usr/bin/zsh\n", false),
            ("run.zsh", "echo\n", false),
            ("run.zsh", "#!/bin/bash\n", true),
            ("run", "echo\n", true),
        ];
        for (path, text, expected) in cases {
            assert_eq!(is_for_bash(Path::new(path), text), expected, "{path}: {text:?}");
        }
    }

    #[test]
    fn names_parse_as_they_are_shown() {
        for (name, kind) in FileKind::NAMES {
            assert_eq!(name.parse::<FileKind>().unwrap(), kind);
            assert_eq!(kind.to_string(), name);
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
        }
        let error = "bash".parse::<FileKind>().unwrap_err();
        assert!(error.to_string().starts_with("`kind` is `bash`, expected `shell`"), "{error}");
    }
}
