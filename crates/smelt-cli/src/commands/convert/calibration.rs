//! The texts that a model is quantized by, and measured on.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use smelt_convert::Source;
use smelt_convert::recipes::Recipe;
use smelt_text::Tokenizer;

use super::FEW_BITS;
use crate::error::CliError;
use crate::quantity::ByteSize;

/// As much of a text is read, which is more than anybody calibrates with.
const MOST_BYTES: u64 = 64 << 20;
/// The share of a text that is kept to measure on: one in so many pieces.
const HELD_OUT: usize = 8;

/// Flags on texts.
#[derive(Debug, Args)]
pub struct CalibrationArgs {
    /// For MLX, round weights by what the model computes on a text [default: each to the nearest value]
    #[arg(long, value_enum, value_name = "METHOD", requires = "calibration_text")]
    pub calibrate: Option<Method>,
    /// Text to calibrate with; what quantizing costs is measured on it with or without `--calibrate`
    #[arg(long, value_name = "FILE", requires = FEW_BITS)]
    pub calibration_text: Option<PathBuf>,
    /// At most so many pieces of the text, spread over all of it
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub calibration_samples: usize,
    /// Tokens of a piece
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub calibration_length: usize,
    /// Instead of `--quantize`, widths of 2, 3, 4, 6 and 8 bits by module, so many bits per weight on average, scales and
    /// all that stays in floats included
    #[arg(long, value_name = "BITS", group = FEW_BITS, requires = "calibration_text")]
    pub target_bits: Option<f64>,
    /// The same for weights of this size
    #[arg(long, value_name = "SIZE", group = FEW_BITS, requires = "calibration_text")]
    pub max_size: Option<ByteSize>,
    /// Text to measure perplexity on [default: the last eighth of the calibration text, which is kept for it]
    #[arg(long, value_name = "FILE", requires = FEW_BITS)]
    pub eval_text: Option<PathBuf>,
}

/// Ways to round by a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Frantar et al. 2022: each column makes good what rounding those before it changed
    Gptq,
    /// Lin et al. 2023: columns with large inputs are scaled up, ranges of groups are cut
    Awq,
}

impl Method {
    /// As the library calls it.
    pub fn recipe(self) -> Recipe {
        match self {
            Self::Gptq => Recipe::Gptq,
            Self::Awq => Recipe::Awq,
        }
    }
}

/// The texts in tokens, each a piece of its own.
#[derive(Debug)]
pub struct Texts {
    /// What the model is quantized by.
    pub calibration: Vec<Vec<u32>>,
    /// What it is measured on.
    pub evaluation: Vec<Vec<u32>>,
    /// The second is part of the first: there was too little of it.
    pub overlap: bool,
}

impl CalibrationArgs {
    /// The texts for the model of `source`, if there are any.
    ///
    /// # Errors
    /// [`CliError::Usage`] for flags that do not go together and for texts that are too short, [`CliError::NoTokenizer`],
    /// [`CliError::Io`], [`CliError::VocabularyTooSmall`].
    pub fn texts(&self, source: &Source) -> Result<Option<Texts>, CliError> {
        let context = source.config.decoder.context_length();
        let length = self.calibration_length.min(context);
        if length < 2 || self.calibration_samples == 0 {
            return Err(CliError::Usage {
                message: format!("{} pieces of {length} tokens are no text", self.calibration_samples),
                hint: "give `--calibration-samples` of 1 or more and `--calibration-length` of 2 or more"
                    .to_owned(),
            });
        }
        let evaluation = self.eval_text.as_deref().map(|path| pieces(source, path, length)).transpose()?;
        let calibration =
            self.calibration_text.as_deref().map(|path| pieces(source, path, length)).transpose()?;
        let spread = |pieces: &[Vec<u32>]| spread(pieces, self.calibration_samples);
        Ok(match (calibration, evaluation) {
            (None, None) => None,
            (None, Some(pieces)) => {
                let pieces = spread(&pieces);
                Some(Texts { calibration: pieces.clone(), evaluation: pieces, overlap: true })
            }
            (Some(calibration), Some(evaluation)) => Some(Texts {
                calibration: spread(&calibration),
                evaluation: spread(&evaluation),
                overlap: false,
            }),
            (Some(pieces), None) if pieces.len() == 1 => {
                Some(Texts { calibration: pieces.clone(), evaluation: pieces, overlap: true })
            }
            (Some(pieces), None) => {
                let kept = pieces.len().div_ceil(HELD_OUT);
                let (calibration, evaluation) = pieces.split_at(pieces.len() - kept);
                Some(Texts {
                    calibration: spread(calibration),
                    evaluation: spread(evaluation),
                    overlap: false,
                })
            }
        })
    }
}

/// The text in `path` in pieces of `length` tokens, each with the token that texts begin with.
fn pieces(source: &Source, path: &Path, length: usize) -> Result<Vec<Vec<u32>>, CliError> {
    let tokenizer = source.companions.tokenizer()?;
    let tokenizer = tokenizer.ok_or_else(|| CliError::NoTokenizer { path: source.path.clone() })?;
    let ids = tokenizer.encode(&read(path)?)?;
    let (model, most) = (source.config.decoder.vocab_size, ids.iter().max().copied().unwrap_or(0) as usize);
    if most >= model {
        return Err(CliError::VocabularyTooSmall { tokenizer: tokenizer.vocab_size().max(most + 1), model });
    }
    let start = first_token(&tokenizer)?.filter(|_| length > 2);
    let whole = length - start.iter().count();
    let is_whole = |piece: &&[u32]| piece.len() == whole || ids.len() < whole;
    let begun = |piece: &[u32]| start.into_iter().chain(piece.iter().copied()).collect::<Vec<u32>>();
    let pieces: Vec<Vec<u32>> = ids.chunks(whole).filter(is_whole).map(begun).collect();
    if pieces.first().is_none_or(|piece| piece.len() < 2) {
        return Err(CliError::Usage {
            message: format!("`{}` has {} tokens, which is no text", path.display(), ids.len()),
            hint: "give more text: some thousand words of what the model is for".to_owned(),
        });
    }
    Ok(pieces)
}

/// The beginning of the text in `path`.
fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::Io { action: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    // The last character may be cut.
    Ok(match bytes.len() as u64 {
        MOST_BYTES => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::from_utf8(bytes).map_err(|error| failed(std::io::Error::other(error)))?,
    })
}

/// What the tokenizer puts in front of a text.
fn first_token(tokenizer: &Tokenizer) -> Result<Option<u32>, CliError> {
    let (plain, special) = (tokenizer.encode("a")?, tokenizer.encode_with_special_tokens("a")?);
    Ok(special.first().copied().filter(|first| plain.first() != Some(first)))
}

/// At most `most` of `pieces`, evenly spread.
pub fn spread(pieces: &[Vec<u32>], most: usize) -> Vec<Vec<u32>> {
    let count = pieces.len().min(most);
    (0..count).map(|index| pieces[index * pieces.len() / count].clone()).collect()
}
