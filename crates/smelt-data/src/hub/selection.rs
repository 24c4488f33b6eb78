//! Which files of a repository are wanted.

/// Files by their names; `*` stands for any characters, `/` among them, and `?` for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Wanted if one of these matches; empty for everything.
    pub include: Vec<String>,
    /// Not wanted if one of these matches.
    pub exclude: Vec<String>,
}

/// Weights in formats that smelt reads only if there are no safetensors, or not at all.
const OTHER_WEIGHTS: [&str; 9] =
    ["*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx*", "*.gguf", "*.ot", "*.tflite"];

impl Selection {
    /// What a model folder needs of `files`: everything but weights that are there in another format too.
    pub fn of_model(files: &[String]) -> Self {
        let has_safetensors = files.iter().any(|file| file.ends_with(".safetensors"));
        let other: &[&str] = if has_safetensors { &OTHER_WEIGHTS } else { &OTHER_WEIGHTS[3..] };
        let exclude = other.iter().copied().chain(["original/*", "onnx/*", "openvino/*", "coreml/*"]);
        Self { include: Vec::new(), exclude: exclude.map(str::to_owned).collect() }
    }

    /// Whether `file` is wanted.
    pub fn wants(&self, file: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, file));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// Whether all of `name` matches `pattern`; takes at most their lengths multiplied.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut here) = (0, 0);
    // The last star, and how much of the name it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while here < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == name[here] => (at, here) = (at + 1, here + 1),
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (at, here) = (place + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.parquet", "data/train-0.parquet", true),
            ("data/shell/*", "data/shell/a.parquet", true),
            ("data/shell/*", "data/shells/a.parquet", false),
            ("data/?.txt", "data/a.txt", true),
            ("data/?.txt", "data/ab.txt", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ba", false),
            ("", "", true),
            ("*", "", true),
            ("é?", "éx", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"a*".repeat(50), &"a".repeat(49)));
    }

    #[test]
    fn a_model_comes_in_one_format() {
        let files = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx"];
        let files: Vec<String> = files.map(str::to_owned).to_vec();
        let wanted = |files: &[String]| {
            let selection = Selection::of_model(files);
            files.iter().filter(|file| selection.wants(file)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(wanted(&files), ["config.json", "model.safetensors"]);
        let without: Vec<String> = files.into_iter().filter(|file| file != "model.safetensors").collect();
        assert_eq!(wanted(&without), ["config.json", "pytorch_model.bin"]);
    }
}
