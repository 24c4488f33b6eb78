//! A training run from its config to its last checkpoint.
//!
//! Puts data, model, backend and trainer together and keeps the folder of the run; the loop itself is
//! `smelt_train::train`. Prints nothing: what happens is told to a callback.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use smelt_backend::{Job, Kernels, Selection, dispatch, memory};
use smelt_data::{InstructionReport, PrepareProgress};
use smelt_model::estimate::parameters;
use smelt_model::weights::{HeldIn, LoadOptions};
use smelt_model::{AdapterConfig, Decoder, ModelConfig, ModelError};
use smelt_train::{
    Base, Best, Checkpoints, Data, Evaluation, MetricsLog, Observer, Outcome, Sample, SkippedStep,
    StepReport, TrainConfig, Trainer, TrainerState,
};

use crate::config::{Method, QuantizationSection, RunConfig, check_context};
use crate::context::select_to_train;
use crate::dataset::{find_data, prepare_data};
use crate::error::CliError;
use crate::folders::{RUN_CONFIG, model_folder, remove_run, tokenizer_files, write_run_config};
use crate::memory_plan::MemoryPlan;
use crate::model_files;
use crate::model_source::weights_folder;
use crate::run_data::RunData;
use crate::run_start::run_start;
use crate::samples::Samples;

/// How a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// In a folder that holds no run yet.
    Fresh,
    /// In place of the run that the folder holds.
    Overwrite,
    /// From the newest checkpoint of the run, or from the beginning where there is none.
    Continue,
    /// From this checkpoint.
    From(PathBuf),
}

/// What happens in a run.
#[derive(Debug)]
pub enum TrainEvent<'a> {
    /// The backend was selected.
    Selected(&'a Selection),
    /// The documents are being read and tokenized.
    Preparing(PrepareProgress<'a>),
    /// Records of instruction data were read.
    Instructed(&'a InstructionReport),
    /// Training begins or continues.
    Begins(&'a RunFacts),
    /// A step was done.
    Stepped {
        /// What it did.
        report: StepReport,
        /// Training speed since the last report.
        tokens_per_second: f64,
    },
    /// A step was skipped because it was not finite.
    Skipped(&'a SkippedStep),
    /// The model was evaluated.
    Evaluated {
        /// After this many steps.
        step: u64,
        /// What was found.
        evaluation: Evaluation,
    },
    /// The model wrote a text.
    Sampled(&'a Sample),
    /// A checkpoint was written.
    Saved(&'a Path),
}

/// The run in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFacts {
    /// Its folder.
    pub run: PathBuf,
    /// The model's family.
    pub family: &'static str,
    /// The model's parameters.
    pub parameters: u64,
    /// Token ids.
    pub vocab_size: usize,
    /// The size that the config asks for.
    pub requested_vocab_size: usize,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to validate on.
    pub val_tokens: u64,
    /// Steps done before.
    pub first_step: u64,
    /// Steps in all.
    pub max_steps: u64,
    /// Memory that training will take at its peak, by estimate.
    pub estimated_bytes: u64,
    /// Training speed if nothing but matrix products took time, where it is known.
    pub peak_tokens_per_second: Option<f64>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSummary {
    /// Its folder.
    pub run: PathBuf,
    /// The last checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Steps done, those before a resume included.
    pub steps: u64,
    /// The last validation loss of this process.
    pub evaluation: Option<Evaluation>,
    /// It was stopped before its last step.
    pub interrupted: bool,
    /// It ended before its last step because the validation loss fell no more.
    pub stopped_early: bool,
    /// The lowest validation loss.
    pub best: Option<Best>,
    /// It was finished before this process began.
    pub finished_before: bool,
}

/// Trains as `config` says. `on_event` hears of everything and may break to stop after the present step.
///
/// # Errors
/// [`CliError`] of any stage; what the folder of the run held before is kept, unless it was to be
/// overwritten.
pub fn train(
    config: &RunConfig,
    start: &Start,
    on_event: &mut dyn FnMut(TrainEvent<'_>) -> ControlFlow<()>,
) -> Result<TrainSummary, CliError> {
    let config = &pinned(config)?;
    let run = run_folder(config)?;
    let checkpoint = checkpoint_to_resume(&run, start)?;
    if let Some(summary) = already_finished(config, &run, checkpoint.as_deref())? {
        return Ok(summary);
    }
    let mut model = requested_model(config, checkpoint.as_deref())?;
    check_context(config, model.decoder.context_length())?;
    check_quantization(config, &model)?;
    let (plan, selection) = fitting_backend(config, &model)?;
    // Nothing is lost yet: the callback's answer counts from the preparation of the data on.
    let _ = on_event(TrainEvent::Selected(&selection));
    let source = find_data(config, &run, checkpoint.as_deref())?;
    let data = prepare_data(source, config, &run, &model, on_event)?;
    if *start == Start::Overwrite {
        // Only here, where there is data for the run that takes its place.
        remove_run(&run, data.folder())?;
    }
    let requested_vocab_size = model.decoder.vocab_size;
    fit_vocabulary(config, &mut model, &data)?;
    let batches = data.batches(config)?;
    let facts = RunFacts {
        run: run.clone(),
        family: model.family.model_type,
        parameters: parameters(&model.decoder).total,
        vocab_size: model.decoder.vocab_size,
        requested_vocab_size,
        train_tokens: data.train_tokens(),
        val_tokens: data.val_tokens(),
        first_step: steps_of(checkpoint.as_deref())?,
        max_steps: config.train.max_steps,
        estimated_bytes: plan.estimate().peak_bytes,
        peak_tokens_per_second: None,
    };
    let samples = Samples::new(config, &model, data.folder())?;
    let tokenizer = data.folder();
    let (selected, spare_bytes) = (&selection, plan.spare_bytes(limit(config)));
    let job = TrainJob {
        config,
        model,
        batches,
        samples,
        tokenizer,
        checkpoint,
        selected,
        facts,
        spare_bytes,
        on_event,
    };
    let outcome = memory::catch_out_of_memory(|| dispatch(selection.name, job))
        .map_err(|message| plan.out_of_memory(message))??;
    memory::release_freed();
    Ok(TrainSummary {
        run,
        checkpoint: outcome.checkpoint,
        steps: outcome.steps,
        evaluation: outcome.evaluation,
        interrupted: outcome.interrupted,
        stopped_early: outcome.stopped_early,
        best: outcome.best,
        finished_before: false,
    })
}

fn run_folder(config: &RunConfig) -> Result<PathBuf, CliError> {
    config.checkpoint.output_dir.clone().ok_or_else(|| CliError::Usage {
        message: "the run has no folder".to_owned(),
        hint: "give one with `--output DIR`".to_owned(),
    })
}

/// Steps done in a checkpoint.
fn steps_of(checkpoint: Option<&Path>) -> Result<u64, CliError> {
    Ok(checkpoint.map_or(Ok(0), |path| TrainerState::read(path).map(|state| state.step))?)
}

/// The backend that is to train `model`, and the memory that this will take.
///
/// # Errors
/// [`CliError`] if there is none, or more memory would be taken than `config` allows.
pub fn fitting_backend(config: &RunConfig, model: &ModelConfig) -> Result<(MemoryPlan, Selection), CliError> {
    let plan = MemoryPlan::new(config, model, Some(&config.backend.name))?;
    plan.check(limit(config))?;
    let required_bytes = Some(plan.estimate().peak_bytes);
    let selection = select_to_train(&config.backend, required_bytes, config.train.precision);
    let selection = selection.map_err(|error| plan.explain(error))?;
    Ok((plan, selection))
}

fn limit(config: &RunConfig) -> Option<u64> {
    config.train.memory_limit.map(|limit| limit.0)
}

/// An adapter belongs to one base: the folder that the path means now, whatever it will mean later.
fn pinned(config: &RunConfig) -> Result<RunConfig, CliError> {
    let mut config = config.clone();
    if let Some(path) = config.model.path.as_mut().filter(|_| config.train.method != Method::Full) {
        let folder = model_folder(path)?;
        *path = folder.canonicalize().unwrap_or(folder);
    }
    Ok(config)
}

fn checkpoint_to_resume(run: &Path, start: &Start) -> Result<Option<PathBuf>, CliError> {
    let newest = Checkpoints::new(run, Vec::new()).newest();
    match start {
        Start::Fresh if newest.is_some() || run.join(RUN_CONFIG).exists() => {
            Err(CliError::RunExists { folder: run.to_owned() })
        }
        Start::Fresh | Start::Overwrite => Ok(None),
        Start::Continue => Ok(newest),
        Start::From(path) => weights_folder(path).map(Some),
    }
}

fn already_finished(
    config: &RunConfig,
    run: &Path,
    checkpoint: Option<&Path>,
) -> Result<Option<TrainSummary>, CliError> {
    let Some(path) = checkpoint else { return Ok(None) };
    let state = TrainerState::read(path)?;
    if state.step < config.train.max_steps || state.config.max_steps != config.train.max_steps {
        return Ok(None);
    }
    Ok(Some(TrainSummary {
        run: run.to_owned(),
        checkpoint: Some(path.to_owned()),
        steps: state.step,
        evaluation: None,
        interrupted: false,
        stopped_early: false,
        best: state.progress.best,
        finished_before: true,
    }))
}

/// A model that is quantized already stays so: it is not trained itself, and another format than its own cannot be asked
/// for.
fn check_quantization(config: &RunConfig, model: &ModelConfig) -> Result<(), CliError> {
    let Some(own) = model.quantization.as_ref().map(|quantization| quantization.default) else {
        return Ok(());
    };
    if config.train.method == Method::Full {
        let folder = config.model.path.clone().unwrap_or_default();
        return Err(CliError::Model(ModelError::Packed { folder }));
    }
    let QuantizationSection { bits, group_size } = config.quantization;
    let same = bits.is_none_or(|bits| bits == u64::from(own.bits()))
        && group_size.is_none_or(|size| size == own.group_size() as u64);
    if same {
        return Ok(());
    }
    let (bits, group_size) = (own.bits(), own.group_size());
    Err(CliError::Usage {
        message: format!("the model is quantized already: {bits} bits in groups of {group_size}"),
        hint: "leave out `--q-bits` and `--q-group-size`, or give the model that it was made from".to_owned(),
    })
}

/// The model of the config, before the tokenizer has its say on the vocabulary.
///
/// # Errors
/// [`CliError`] if it cannot be read, or describes no model.
pub fn requested_model(config: &RunConfig, checkpoint: Option<&Path>) -> Result<ModelConfig, CliError> {
    let Some(path) = &config.model.path else { return Ok(config.model.model_config()?) };
    // The folder that a run started from may be gone when it continues.
    let folder = match checkpoint {
        Some(checkpoint) if config.train.method == Method::Full => checkpoint.to_owned(),
        _ => model_folder(path)?,
    };
    model_files::config(&folder)
}

/// Gives a new model the vocabulary of its tokenizer; a loaded one must already hold it.
fn fit_vocabulary(config: &RunConfig, model: &mut ModelConfig, data: &RunData) -> Result<(), CliError> {
    let (has, needs) = (model.decoder.vocab_size, data.vocab_size());
    if needs > has {
        return Err(CliError::VocabularyTooSmall { model: has, tokenizer: needs });
    }
    if let Some(path) = &config.model.path {
        let own = model_files::tokenizer(&model_folder(path)?)?;
        if own.sha256() != data.tokenizer_sha256() {
            let (data, model) = (data.folder().display(), path.display());
            tracing::warn!("`{data}` was tokenized by another tokenizer than that of `{model}`");
        }
        return Ok(());
    }
    let mut section = config.model.clone();
    section.set("vocab_size", needs);
    if let Some(end_of_text) = data.end_of_text() {
        section.set("eos_token_id", end_of_text);
    }
    *model = section.model_config()?;
    Ok(())
}

struct TrainJob<'a> {
    config: &'a RunConfig,
    model: ModelConfig,
    batches: Data,
    samples: Samples,
    /// Folder of the tokenizer's files.
    tokenizer: &'a Path,
    checkpoint: Option<PathBuf>,
    selected: &'a Selection,
    facts: RunFacts,
    /// Memory for checkpoints to be written while training goes on.
    spare_bytes: u64,
    on_event: &'a mut dyn FnMut(TrainEvent<'_>) -> ControlFlow<()>,
}

impl Job for TrainJob<'_> {
    type Output = Result<Outcome, CliError>;

    fn run<B: Kernels>(mut self, device: B::Device) -> Self::Output {
        let settings = self.config.train_config();
        let mut trainer = match self.config.adapter_config() {
            Some(adapter) => self.adapter_trainer::<B>(&adapter, settings, device.clone())?,
            None => self.trainer::<B>(settings, device.clone())?,
        };
        // Only here: what fails before leaves no run behind.
        write_run_config(self.config, &self.facts.run)?;
        let log = self.log::<B>(&device)?;
        let stopped = (self.on_event)(TrainEvent::Begins(&self.facts)).is_break();
        let companions = tokenizer_files(self.tokenizer, &self.facts.run)?;
        let checkpoints = Checkpoints::new(&self.facts.run, companions).with_spare_bytes(self.spare_bytes);
        let mut observer = Events { on_event: self.on_event, samples: self.samples, device, stopped };
        Ok(smelt_train::train(&mut trainer, &self.batches, log, &checkpoints, &mut observer)?)
    }
}

impl TrainJob<'_> {
    fn trainer<B: Kernels>(&self, settings: TrainConfig, device: B::Device) -> Result<Trainer<B>, CliError> {
        let data = &self.batches.fingerprint;
        Ok(match &self.checkpoint {
            Some(path) => Trainer::resume(path, settings, &self.model, data, device)?,
            None => new_trainer(self.config, &self.model, device)?,
        })
    }

    fn adapter_trainer<B: Kernels>(
        &self,
        adapter: &AdapterConfig,
        settings: TrainConfig,
        device: B::Device,
    ) -> Result<Trainer<B>, CliError> {
        let data = &self.batches.fingerprint;
        let Some(checkpoint) = &self.checkpoint else { return new_trainer(self.config, &self.model, device) };
        let base = base::<B>(self.config, &device)?;
        Ok(Trainer::resume_adapter(checkpoint, settings, base, adapter, data, device)?)
    }

    /// Opens the log and writes down what begins.
    fn log<B: Kernels>(&mut self, device: &B::Device) -> Result<MetricsLog, CliError> {
        let mut log = MetricsLog::open(&self.facts.run, self.facts.first_step)?;
        if self.config.log.tensorboard {
            log = log.with_tensorboard()?;
        }
        log.begin(run_start::<B>(self.config, &self.model, &self.facts, self.selected, device))?;
        self.facts.peak_tokens_per_second = log.peak_tokens_per_second();
        Ok(log)
    }
}

/// What trains as `config` says, before its first step.
///
/// # Errors
/// [`CliError`] if the weights that it starts from cannot be loaded.
pub fn new_trainer<B: Kernels>(
    config: &RunConfig,
    model: &ModelConfig,
    device: B::Device,
) -> Result<Trainer<B>, CliError> {
    let settings = config.train_config();
    if let Some(adapter) = config.adapter_config() {
        return Ok(Trainer::with_new_adapter(settings, base::<B>(config, &device)?, &adapter, device)?);
    }
    let initial = match &config.model.path {
        Some(path) => {
            let options = LoadOptions { held_in: HeldIn::F32, ..LoadOptions::default() };
            model_files::load::<B>(&model_folder(path)?, options, &device)?.1
        }
        None => Decoder::init(model, config.train.seed, &device),
    };
    Ok(Trainer::new(settings, model.clone(), initial, device)?)
}

/// The base of an adapter, which keeps the dtype of its file, or is quantized while it is read.
fn base<B: Kernels>(config: &RunConfig, device: &B::Device) -> Result<Base<B>, CliError> {
    let path = config.model.path.as_deref().expect("a check demands the model that is adapted");
    let path = &model_folder(path)?;
    let (config, model) = match config.quantization_rules() {
        Some(rules) => model_files::load_quantized::<B>(path, &rules, device)?,
        None => model_files::load::<B>(path, LoadOptions::default(), device)?,
    };
    Ok(Base { config, model, fingerprint: model_files::checkpoint(path)?.fingerprint()? })
}

/// Passes on what the loop reports.
struct Events<'a, B: Kernels> {
    on_event: &'a mut dyn FnMut(TrainEvent<'_>) -> ControlFlow<()>,
    samples: Samples,
    device: B::Device,
    stopped: bool,
}

impl<B: Kernels> Events<'_, B> {
    fn tell(&mut self, event: TrainEvent<'_>) {
        self.stopped |= (self.on_event)(event).is_break();
    }
}

impl<B: Kernels> Observer<B> for Events<'_, B> {
    fn stepped(&mut self, report: &StepReport, tokens_per_second: f64) {
        self.tell(TrainEvent::Stepped { report: *report, tokens_per_second });
    }

    fn skipped(&mut self, skipped: &SkippedStep) {
        self.tell(TrainEvent::Skipped(skipped));
    }

    fn evaluated(&mut self, _model: &Decoder<B>, step: u64, evaluation: &Evaluation) {
        self.tell(TrainEvent::Evaluated { step, evaluation: *evaluation });
    }

    fn wants_samples(&self, step: u64) -> bool {
        self.samples.are_due(step)
    }

    fn samples(&mut self, model: &Decoder<B>, step: u64) -> Vec<Sample> {
        let samples = self.samples.draw(model, step, &self.device);
        for sample in &samples {
            self.tell(TrainEvent::Sampled(sample));
        }
        samples
    }

    fn saved(&mut self, checkpoint: &Path) {
        self.tell(TrainEvent::Saved(checkpoint));
    }

    fn should_stop(&self) -> bool {
        self.stopped
    }
}
