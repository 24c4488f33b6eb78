//! The engine on the caller's thread, for prompts that are all there.

use std::sync::{Arc, Mutex, PoisonError};

use smelt_backend::Kernels;
use smelt_model::{Decoder, ModelConfig};

use super::request::{CompletionOptions, Event, Request, Work};
use super::{Engine, EngineModel, EngineOptions, LoadedModel, engine_channel};
use crate::error::GenerateError;

/// Continues each prompt and returns the new tokens, in the order of the prompts.
///
/// # Errors
/// Those of [`generate`](crate::generate), of the first prompt that has one; [`GenerateError::TooLarge`].
pub fn complete_all<B: Kernels>(
    model: &Decoder<B>,
    config: &ModelConfig,
    prompts: Vec<(Vec<u32>, CompletionOptions)>,
    options: EngineOptions,
    device: &B::Device,
) -> Result<Vec<Vec<u32>>, GenerateError> {
    let entry = EngineModel::without_text("model", Arc::new(config.clone()));
    let options = EngineOptions { max_waiting: prompts.len(), ..options };
    let (handle, inbox) = engine_channel(vec![entry], options);
    let results: Vec<_> = prompts.iter().map(|_| Arc::new(Mutex::new(Ok(Vec::new())))).collect();
    let mut tickets = Vec::with_capacity(prompts.len());
    for ((prompt, completion), result) in prompts.into_iter().zip(&results) {
        let result = result.clone();
        let on_event = move |event| {
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            match (event, &mut *result) {
                (Event::Token(event), Ok(tokens)) => tokens.push(event.token),
                (Event::Failed(error), result) => *result = Err(error),
                _ => {}
            }
        };
        let work = Work::Complete(Box::new(completion));
        let request = Request { model: 0, prompt, work, deadline: None, on_event: Box::new(on_event) };
        tickets.push(handle.submit(request)?);
    }
    handle.shut_down();
    let load = |_, _: &B::Device| Ok(LoadedModel { decoder: model.clone(), draft: None });
    Engine::new(inbox, load, device.clone()).run();
    let taken = |result: Arc<Mutex<Result<_, _>>>| {
        std::mem::replace(&mut *result.lock().unwrap_or_else(PoisonError::into_inner), Ok(Vec::new()))
    };
    results.into_iter().map(taken).collect()
}
