//! Quantizing by what a model computes on a text, for every family.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use smelt_backend::kernels::QuantizationFormat;
use smelt_backend::{Job, Kernels, dispatch, in_build, int_tensor, to_host};
use smelt_convert::folder::FolderOptions;
use smelt_convert::recipes::{Calibration, ModuleReport, Recipe, calibrate};
use smelt_convert::{ConvertError, Source, write_quantized};
use smelt_model::quantization::{QuantizationPlan, QuantizationRules};
use smelt_model::weights::{HeldIn, LoadOptions, Replacements, load_weights};
use smelt_model::{Decoder, ForwardInput};
use smelt_testkit::{Golden, golden_folder, max_abs_difference, numbers};

use crate::support::logits;

const WHOLE: FolderOptions = FolderOptions { dtype: None, max_shard_bytes: u64::MAX };

/// A model quantized in memory.
struct Quantized {
    replacements: Replacements,
    modules: Vec<ModuleReport>,
    /// Logits of the first sequence.
    logits: Vec<f32>,
}

struct QuantizeJob<'a> {
    source: &'a Source,
    plan: &'a QuantizationPlan,
    recipe: Recipe,
    sequences: &'a [Vec<u32>],
    /// Modules after which it is interrupted.
    most: usize,
}

impl Job for QuantizeJob<'_> {
    type Output = Result<Quantized, ConvertError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let Self { source, plan, recipe, sequences, most } = self;
        let model = load_weights::<B>(&source.config, &source.checkpoint, LoadOptions::default(), &device)?;
        let calibration = Calibration {
            source,
            plan,
            recipe,
            sequences,
            dtype: None,
            on_module: &mut |done, _, _| {
                if done < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        };
        let done = calibrate(calibration, model, &device)?;
        let ids = int_tensor::<B, 2>(&sequences[0], [1, sequences[0].len()], &device);
        let logits = to_host(done.model.logits(done.model.hidden(ForwardInput::new(ids))));
        Ok(Quantized { replacements: done.replacements, modules: done.modules, logits })
    }
}

fn quantized(source: &Source, plan: &QuantizationPlan, recipe: Recipe) -> Quantized {
    let sequences = sequences(source);
    let job = QuantizeJob { source, plan, recipe, sequences: &sequences, most: usize::MAX };
    dispatch(in_build()[0], job).unwrap()
}

/// Ids without sense, as many of them as the context holds.
fn sequences(source: &Source) -> Vec<Vec<u32>> {
    let config = &source.config.decoder;
    let length = config.context_length().min(24);
    let ids = |row: usize| {
        let numbers = numbers(length, 17 + row as u32);
        numbers.iter().map(|x| ((x + 1.0) / 2.0 * (config.vocab_size - 1) as f32) as u32).collect()
    };
    (0..12).map(ids).collect()
}

fn plan(source: &Source, bits: u64) -> QuantizationPlan {
    QuantizationRules::uniform(QuantizationFormat::new(bits, 32).unwrap()).plan(&source.config).unwrap()
}

fn bytes_of(folder: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let names = ["config.json", "model.safetensors", "model.safetensors.index.json"];
    names.map(|name| (name.to_owned(), std::fs::read(folder.join(name)).unwrap())).into()
}

/// Errors of the modules that something entered, as they were rounded and to the nearest.
fn errors(modules: &[ModuleReport]) -> Vec<(f64, f64)> {
    modules.iter().filter_map(|module| Some((module.output_error?, module.nearest_output_error?))).collect()
}

#[test]
fn recipes_change_outputs_of_every_family_less_and_files_compute_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for golden in Golden::of_kind("causal") {
        let name = golden.name();
        let source = Source::open(&golden.folder).unwrap();
        let plan = plan(&source, 3);
        for recipe in [Recipe::Gptq, Recipe::Awq] {
            let found = quantized(&source, &plan, recipe);
            let errors = errors(&found.modules);
            let better = errors.iter().filter(|(error, nearest)| *error < 0.97 * nearest).count();
            assert!(2 * better > errors.len(), "{name}, {recipe:?}: {better} of {}", errors.len());
            if recipe == Recipe::Gptq {
                assert!(errors.iter().all(|(error, nearest)| error <= nearest && *error > 0.0), "{name}");
            }
            let folder = scratch.path().join(format!("{name}-{recipe:?}"));
            write_quantized(&source, &plan, Some(&found.replacements), WHOLE, &folder).unwrap();
            let written = Source::open(&folder).unwrap();
            let ids = &sequences(&source)[0];
            let differs = max_abs_difference(&logits(&written, ids, [1, ids.len()]), &found.logits);
            assert!(differs == 0.0, "{name}, {recipe:?}: logits of the folder differ by {differs}");
        }
        seen += 1;
    }
    assert!(seen > 25, "{seen} families");
}

/// Hands factors to the columns of everything that reads a norm or a projection.
struct FoldJob<'a>(&'a Source);

impl Job for FoldJob<'_> {
    type Output = (f32, usize);

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let (source, ids) = (self.0, sequences(self.0).concat());
        let (config, rows) = (&source.config, 12);
        let options = LoadOptions { held_in: HeldIn::F32, ..LoadOptions::default() };
        let mut model = load_weights::<B>(config, &source.checkpoint, options, &device).unwrap();
        let logits = |model: &Decoder<B>| {
            let ids = int_tensor::<B, 2>(&ids, [rows, ids.len() / rows], &device);
            to_host(model.logits(model.hidden(ForwardInput::new(ids))))
        };
        let before = logits(&model);
        let mut changed = 0;
        for layer in 0..config.decoder.num_hidden_layers {
            for (index, folding) in config.decoder.foldings(layer).into_iter().enumerate() {
                let [_, features] = model.matrix(&folding.readers[0]).unwrap().dims();
                let factors = numbers(features, 5 + index as u32);
                let factors: Vec<f32> = factors.iter().map(|x| (1.5 * x).exp()).collect();
                changed += model.fold(&config.family.names, &folding, &factors).len();
            }
        }
        (max_abs_difference(&logits(&model), &before), changed)
    }
}

#[test]
fn factors_that_are_handed_on_change_nothing() {
    for golden in Golden::of_kind("causal") {
        let name = golden.name();
        let source = Source::open(&golden.folder).unwrap();
        let (difference, changed) = dispatch(in_build()[0], FoldJob(&source));
        println!("{name}: {changed} parameters, {difference:.1e}");
        assert!(difference < 1e-4, "{name}: {difference}");
        let layers = source.config.decoder.num_hidden_layers;
        assert!(changed >= 4 * layers, "{name}: {changed} parameters");
    }
}

/// Places for factors by their numbers: norms, values, and the feed-forward parts.
#[test]
fn every_block_has_its_places_for_factors() {
    let readers = |name: &str| -> Vec<usize> {
        let source = Source::open(&golden_folder(name)).unwrap();
        source.config.decoder.foldings(0).iter().map(|folding| folding.readers.len()).collect()
    };
    assert_eq!(readers("llama_mha"), [3, 2, 1, 1], "queries, keys and values; gate and up; values; up");
    assert_eq!(readers("llama_gqa_tied"), [3, 2, 1], "values belong to several heads");
    assert_eq!(readers("gpt2"), [1, 1, 1], "no gate");
    assert_eq!(readers("phi2"), [4, 1], "one norm for both parts");
    assert_eq!(readers("gpt_neox"), [1, 1, 1], "a norm for each part");
    assert_eq!(readers("phi3"), [1, 1, 1, 1], "joined matrices");
    let mixtral = readers("mixtral");
    assert_eq!(mixtral[..2], [3, 9], "the router and two matrices of each of four experts");
}

#[test]
fn rounding_to_the_nearest_is_the_same_measured_or_not() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["llama_gqa_tied", "qwen3_moe", "gpt2"] {
        let source = Source::open(&golden_folder(name)).unwrap();
        let plan = plan(&source, 4);
        let found = quantized(&source, &plan, Recipe::Nearest);
        assert!(
            found.modules.iter().all(|module| module.output_error == module.nearest_output_error),
            "{name}"
        );
        let folders = ["measured", "plain"].map(|kind| scratch.path().join(format!("{name}-{kind}")));
        write_quantized(&source, &plan, Some(&found.replacements), WHOLE, &folders[0]).unwrap();
        write_quantized(&source, &plan, None, WHOLE, &folders[1]).unwrap();
        assert!(bytes_of(&folders[0]) == bytes_of(&folders[1]), "{name}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let source = Source::open(&golden_folder("mixtral")).unwrap();
    let plan = plan(&source, 4);
    let with_threads = |count: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        let found = pool.install(|| quantized(&source, &plan, Recipe::Gptq));
        (found.replacements.packed, found.modules)
    };
    assert!(with_threads(1) == with_threads(3));
}

#[test]
fn an_interrupted_quantization_says_so() {
    let source = Source::open(&golden_folder("llama_mha")).unwrap();
    let (plan, sequences) = (plan(&source, 4), sequences(&source));
    let job =
        QuantizeJob { source: &source, plan: &plan, recipe: Recipe::Gptq, sequences: &sequences, most: 5 };
    let stopped = dispatch(in_build()[0], job);
    assert!(matches!(stopped, Err(ConvertError::Interrupted)));
}
