//! What rules make of one model: a format, or none, for each of its matrices.

use std::collections::BTreeMap;
use std::hash::Hash;

use indexmap::IndexMap;
use smelt_backend::kernels::QuantizationFormat;

use super::Quantization;
use super::rules::QuantizationRules;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::parameters::ParameterInfo;

/// What stands for the number of an expert: those of a block are quantized alike, as files join them.
const EVERY_EXPERT: &str = "*";

/// The formats of a model's matrices.
#[derive(Debug, Clone)]
pub struct QuantizationPlan {
    /// By the paths of modules, experts joined; `None` for those that stay as they are.
    formats: BTreeMap<String, Option<QuantizationFormat>>,
    /// The same as a configuration says it.
    pub quantization: Quantization,
    /// Rules that match nothing.
    pub idle_rules: Vec<String>,
    /// Modules that a rule matches, but whose rows do not divide into its groups; they stay as they are.
    pub indivisible: Vec<String>,
}

impl QuantizationRules {
    /// What the rules make of the model of `config`.
    ///
    /// # Errors
    /// [`ModelError::BadRule`] for a name that no module has; [`ModelError::NothingQuantized`] if every matrix would
    /// stay as it is.
    pub fn plan(&self, config: &ModelConfig) -> Result<QuantizationPlan, ModelError> {
        let parameters = config.parameters();
        let matrices = parameters.iter().filter_map(matrix);
        let matrices: IndexMap<String, usize> = matrices.collect();
        self.check_names(matrices.keys().map(String::as_str))?;
        let mut used = vec![false; self.rules.len()];
        let (mut formats, mut indivisible) = (BTreeMap::new(), Vec::new());
        for (path, columns) in &matrices {
            let rule = self.rules.iter().position(|rule| rule.matches(path));
            rule.into_iter().for_each(|index| used[index] = true);
            let format = match (rule, self.usual) {
                (Some(index), _) => self.rules[index].format,
                (None, Some(usual)) => usual_format(config, path, *columns, usual),
                (None, None) => None,
            };
            let divisible = format.filter(|format| format.groups(*columns).is_ok());
            if format.is_some() && divisible.is_none() {
                indivisible.push(path.clone());
            }
            formats.insert(path.clone(), divisible);
        }
        let idle = self.rules.iter().zip(used).filter(|(_, used)| !used);
        Ok(QuantizationPlan {
            quantization: self.quantization(config, &matrices, &formats)?,
            idle_rules: idle.map(|(rule, _)| rule.text.clone()).collect(),
            formats,
            indivisible,
        })
    }

    /// The formats as `config.json` lists them: those that differ from the commonest.
    fn quantization(
        &self,
        config: &ModelConfig,
        matrices: &IndexMap<String, usize>,
        formats: &BTreeMap<String, Option<QuantizationFormat>>,
    ) -> Result<Quantization, ModelError> {
        let commonest = commonest(formats.values().flatten().copied());
        let default = self.usual.or(commonest).filter(|_| commonest.is_some());
        let default = default.ok_or(ModelError::NothingQuantized)?;
        let modules = matrices.iter().map(|(path, columns)| {
            (config.family.names.mlx_module(&one_expert(path)), *columns, formats[path])
        });
        Ok(Quantization::of_modules(default, modules))
    }
}

impl QuantizationPlan {
    /// The format of the module at `path`, if it is quantized.
    pub fn format_of(&self, path: &str) -> Option<QuantizationFormat> {
        self.formats.get(&every_expert(path)).copied().flatten()
    }

    /// The format of the parameter at `path`, if it is the matrix of a module that is quantized.
    pub fn format_of_parameter(&self, path: &str) -> Option<QuantizationFormat> {
        self.format_of(path.strip_suffix(".weight")?)
    }

    /// `config` of the model that comes of it.
    pub fn applied_to(&self, config: &ModelConfig) -> ModelConfig {
        config.quantized(self.quantization.clone())
    }
}

impl Quantization {
    /// Bytes of the weights of a model of `config` that is quantized like this, with `dense_bytes` for each scale, each
    /// bias and each value that is not packed.
    pub fn weights_bytes(&self, config: &ModelConfig, dense_bytes: u64) -> u64 {
        let of = |info: &ParameterInfo| {
            let elements = info.elements() as u64;
            let format = matrix(info).and_then(|(path, columns)| {
                let format = self.format_of(&config.family.names.mlx_module(&one_expert(&path)))?;
                format.groups(columns).is_ok().then_some(format)
            });
            match format {
                Some(format) => {
                    let scales = elements / format.group_size() as u64;
                    elements * u64::from(format.bits()) / 8 + 2 * dense_bytes * scales
                }
                None => elements * dense_bytes,
            }
        };
        config.parameters().iter().map(of).sum()
    }
}

/// What mlx-lm makes of a module that it quantizes to `usual`.
fn usual_format(
    config: &ModelConfig,
    path: &str,
    columns: usize,
    usual: QuantizationFormat,
) -> Option<QuantizationFormat> {
    if usual.groups(columns).is_err() {
        return None;
    }
    // Its own exception of the families here: wrong choices among many experts cost more than 4 bits save.
    let is_router = config.family.model_type == "qwen3_moe" && path.ends_with(".router");
    let of_router = || QuantizationFormat::new(8, 64).ok();
    if is_router { of_router() } else { Some(usual) }
}

/// The most frequent of `formats`; of several, the one that comes last for the first time.
pub fn commonest<F: Copy + Eq + Hash>(formats: impl IntoIterator<Item = F>) -> Option<F> {
    let mut counts: IndexMap<F, usize> = IndexMap::new();
    formats.into_iter().for_each(|format| *counts.entry(format).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(format, _)| format)
}

/// A matrix by the path of its module, experts joined, and the values of a row.
fn matrix(info: &ParameterInfo) -> Option<(String, usize)> {
    let path = info.path.strip_suffix(".weight")?;
    let [_, columns] = info.shape.as_slice().try_into().ok()?;
    Some((every_expert(path), columns))
}

/// The path of a module, with `*` for the number of an expert: those of a block are quantized alike.
pub fn every_expert(path: &str) -> String {
    replace_expert(path, EVERY_EXPERT)
}

fn one_expert(path: &str) -> String {
    replace_expert(path, "0")
}

fn replace_expert(path: &str, number: &str) -> String {
    const EXPERTS: &str = ".experts.";
    let Some((block, rest)) = path.split_once(EXPERTS) else { return path.to_owned() };
    let projection = rest.split_once('.').map_or(rest, |(_, projection)| projection);
    format!("{block}{EXPERTS}{number}.{projection}")
}
