//! Which modules an adapter changes: PEFT's rules, by the names of modules.

use indexmap::IndexMap;
use regex::Regex;

use super::config::{ALL_LINEAR, AdapterBias, AdapterConfig, ModuleNames, bad};
use crate::error::ModelError;
use crate::parameters::{ParameterInfo, Role};

/// The rules of one configuration, ready to be asked.
pub(super) struct Rules<'a> {
    config: &'a AdapterConfig,
    targets: Matcher<'a>,
    excluded: Option<Matcher<'a>>,
    /// Finds the number of the layer in a module's name.
    layer: Vec<Regex>,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

enum Matcher<'a> {
    AllLinear,
    Pattern(Regex),
    Names(&'a [String]),
}

/// A projection of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Module<'a> {
    /// Its path in the model.
    pub path: &'a str,
    /// Its name in the family's checkpoints.
    pub key: &'a str,
}

/// Projections that `all-linear` leaves out: the head, and what decides on experts.
const NOT_ALL: [&str; 3] = ["lm_head", "router", "shared_expert_gate"];

impl<'a> Rules<'a> {
    /// # Errors
    /// [`ModelError::BadAdapterValue`] for a pattern that is none.
    pub fn new(config: &'a AdapterConfig) -> Result<Self, ModelError> {
        let layer = match &config.layers_pattern {
            None => vec![pattern("layers_pattern", r"^.*\.[^.]*\.(\d+)\.")?],
            Some(names) => {
                let names = match names {
                    ModuleNames::Pattern(one) => std::slice::from_ref(one),
                    ModuleNames::Names(several) => several.as_slice(),
                };
                let of = |name: &String| pattern("layers_pattern", &format!(r"^.*\.{name}\.(\d+)\."));
                names.iter().map(of).collect::<Result<_, _>>()?
            }
        };
        Ok(Self {
            config,
            targets: Matcher::new("target_modules", &config.target_modules)?,
            excluded: config
                .exclude_modules
                .as_ref()
                .map(|names| Matcher::new("exclude_modules", names))
                .transpose()?,
            layer,
            ranks: by_end("rank_pattern", &config.rank_pattern)?,
            alphas: by_end("alpha_pattern", &config.alpha_pattern)?,
        })
    }

    /// Rank and alpha of `module`, if it is to be adapted.
    pub fn adapts(&self, module: Module<'_>) -> Option<(usize, f64)> {
        if self.excluded.as_ref().is_some_and(|excluded| excluded.matches(module)) {
            return None;
        }
        // A whole name is meant whatever its layer.
        let whole =
            matches!(&self.targets, Matcher::Names(names) if names.iter().any(|name| name == module.key));
        let found = whole || (self.targets.matches(module) && self.in_layers(module.key));
        if !found {
            return None;
        }
        let of =
            |rules: &[(Regex, usize)]| rules.iter().find(|(rule, _)| rule.is_match(module.key)).map(|r| r.1);
        let alpha = self.alphas.iter().find(|(rule, _)| rule.is_match(module.key)).map(|rule| rule.1);
        Some((of(&self.ranks).unwrap_or(self.config.r), alpha.unwrap_or(self.config.lora_alpha)))
    }

    fn in_layers(&self, key: &str) -> bool {
        let Some(layers) = &self.config.layers_to_transform else { return true };
        let found = self.layer.iter().find_map(|rule| rule.captures(key)?.get(1)?.as_str().parse().ok());
        found.is_some_and(|layer| layers.contains(layer))
    }

    /// The adapter trains and holds `parameter` of a model that carries it.
    pub fn holds(&self, parameter: &ParameterInfo) -> bool {
        let [key, path] = [&parameter.key, &parameter.path]
            .map(|name| name.rsplit_once('.').map_or("", |(module, _)| module));
        let module = Module { path, key };
        let bias = match self.config.bias {
            AdapterBias::None => false,
            AdapterBias::All => parameter.role == Role::Bias,
            AdapterBias::LoraOnly => parameter.path.ends_with(".bias") && self.adapts(module).is_some(),
        };
        parameter.role == Role::Adapter || bias || self.saves(module)
    }

    /// `module` is trained and saved whole.
    pub fn saves(&self, module: Module<'_>) -> bool {
        let names = self.config.modules_to_save.iter().flatten();
        names.into_iter().any(|name| module.key.ends_with(name.as_str()) || module.path == name)
    }
}

impl<'a> Matcher<'a> {
    fn new(key: &str, names: &'a ModuleNames) -> Result<Self, ModelError> {
        Ok(match names {
            ModuleNames::Pattern(text) if text == ALL_LINEAR => Self::AllLinear,
            ModuleNames::Pattern(text) => Self::Pattern(pattern(key, &format!("^(?:{text})$"))?),
            ModuleNames::Names(names) => Self::Names(names),
        })
    }

    fn matches(&self, module: Module<'_>) -> bool {
        match self {
            Self::AllLinear => {
                let name = module.path.rsplit('.').next().unwrap_or_default();
                !NOT_ALL.contains(&name)
            }
            Self::Pattern(rule) => rule.is_match(module.key),
            // The head has one name in all families for some versions of transformers.
            Self::Names(names) => names.iter().any(|name| ends_with(module.key, name) || name == module.path),
        }
    }
}

/// `key` is `name`, or ends with it behind a dot.
fn ends_with(key: &str, name: &str) -> bool {
    key.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn by_end<T: Copy>(key: &str, rules: &IndexMap<String, T>) -> Result<Vec<(Regex, T)>, ModelError> {
    rules.iter().map(|(end, value)| Ok((pattern(key, &format!(r"^(?:.*\.)?(?:{end})$"))?, *value))).collect()
}

fn pattern(key: &str, text: &str) -> Result<Regex, ModelError> {
    Regex::new(text).map_err(|_| bad(key, &text.into(), "a regular expression"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::LayerIndices;

    fn adapts(config: &AdapterConfig, path: &str, key: &str) -> Option<(usize, f64)> {
        Rules::new(config).unwrap().adapts(Module { path, key })
    }

    fn names(names: &[&str]) -> ModuleNames {
        ModuleNames::Names(names.iter().map(|&name| name.to_owned()).collect())
    }

    const Q: &str = "layers.3.self_attn.q_proj";
    const KEY: &str = "model.layers.3.self_attn.q_proj";

    #[test]
    fn names_are_ends_behind_a_dot() {
        let config = |name| AdapterConfig { target_modules: names(&[name]), ..AdapterConfig::default() };
        assert_eq!(adapts(&config("q_proj"), Q, KEY), Some((16, 32.0)));
        assert_eq!(adapts(&config("self_attn.q_proj"), Q, KEY), Some((16, 32.0)));
        assert_eq!(adapts(&config(KEY), Q, KEY), Some((16, 32.0)));
        assert_eq!(adapts(&config("proj"), Q, KEY), None);
    }

    #[test]
    fn patterns_match_whole_names() {
        let config = |text: &str| AdapterConfig {
            target_modules: ModuleNames::Pattern(text.to_owned()),
            ..AdapterConfig::default()
        };
        assert!(adapts(&config(r".*\.[0-3]\.self_attn\.(q|v)_proj"), Q, KEY).is_some());
        assert!(adapts(&config(r"self_attn\.(q|v)_proj"), Q, KEY).is_none());
        assert!(adapts(&config(ALL_LINEAR), Q, KEY).is_some());
        assert!(adapts(&config(ALL_LINEAR), "lm_head", "lm_head").is_none());
        assert!(Rules::new(&config("(")).is_err());
    }

    #[test]
    fn layers_ranks_and_exceptions_are_chosen() {
        let config = AdapterConfig {
            target_modules: names(&["q_proj", "v_proj"]),
            layers_to_transform: Some(LayerIndices::Several(vec![1, 3])),
            exclude_modules: Some(names(&["v_proj"])),
            rank_pattern: [("layers.3.self_attn.q_proj".to_owned(), 4)].into(),
            alpha_pattern: [("q_proj".to_owned(), 6.0)].into(),
            ..AdapterConfig::default()
        };
        assert_eq!(adapts(&config, Q, KEY), Some((4, 6.0)));
        assert_eq!(adapts(&config, Q, "model.layers.1.self_attn.q_proj"), Some((16, 6.0)));
        assert_eq!(adapts(&config, Q, "model.layers.2.self_attn.q_proj"), None);
        assert_eq!(adapts(&config, Q, "model.layers.1.self_attn.v_proj"), None);
    }
}
