//! What the binary carries so that `smelt train` needs no file and no network.

use include_dir::{Dir, DirEntry, include_dir};

use crate::config::{ConfigError, Origin, Settings};

/// The config of the quick start, as it stands in `configs/quickstart.yaml`.
pub const CONFIG: &str = include_str!("../../../configs/quickstart.yaml");

/// Folder of the quick start's run.
pub const OUTPUT: &str = "runs/quickstart";

/// What the sample at the end starts from.
pub const PROMPT: &str = "#!/usr/bin/env bash\n#";

/// Bash scripts and English about them, written for this project.
static CORPUS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/assets/corpus");

/// The settings of the quick start.
///
/// # Errors
/// [`ConfigError`] if the embedded file is wrong, which a test rules out.
pub fn settings() -> Result<Settings, ConfigError> {
    Settings::from_yaml(CONFIG, &|_| Origin::BuiltIn)
}

/// The embedded documents by path, in alphabetical order.
pub fn documents() -> Vec<(String, &'static str)> {
    let mut documents = Vec::new();
    collect(&CORPUS, &mut documents);
    documents.sort();
    documents
}

fn collect(folder: &'static Dir<'static>, documents: &mut Vec<(String, &'static str)>) {
    for entry in folder.entries() {
        match entry {
            DirEntry::Dir(folder) => collect(folder, documents),
            DirEntry::File(file) => {
                let text = file.contents_utf8().expect("the embedded corpus is UTF-8");
                documents.push((file.path().display().to_string(), text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;

    #[test]
    fn the_embedded_config_is_right() {
        let config = RunConfig::from_settings(&settings().unwrap()).unwrap();
        assert!(config.data.embedded);
        assert_eq!(config.checkpoint.output_dir.as_deref(), Some(OUTPUT.as_ref()));
    }

    #[test]
    fn the_corpus_is_bash_and_english() {
        let documents = documents();
        let ends = |suffix: &str| documents.iter().filter(|(path, _)| path.ends_with(suffix)).count();
        assert!(ends(".sh") > 50 && ends(".md") > 5, "{} scripts, {} pages", ends(".sh"), ends(".md"));
        assert!(documents.iter().all(|(_, text)| !text.trim().is_empty()));
    }
}
