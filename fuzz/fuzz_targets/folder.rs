//! Any text as a `config.json`, and any bytes as the `model.safetensors` beside it, packed or not: what fits each other
//! is loaded and computes.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use smelt_backend::{Job, Kernels, Name, dispatch, int_tensor, to_host};
use smelt_convert::Source;
use smelt_fuzz::{folder, two_files};
use smelt_model::weights::WEIGHTS_FILE;
use smelt_model::{CONFIG_FILE, ForwardInput, load};

/// Loads the model in a folder and runs it on one token.
struct Run<'a>(&'a Path);

impl Job for Run<'_> {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let Ok((config, model)) = load::<B>(self.0, &device) else { return };
        let ids = int_tensor::<B, 2>(&[0], [1, 1], &device);
        let logits = to_host(model.logits(model.hidden(ForwardInput::new(ids))));
        assert_eq!(logits.len(), config.decoder.vocab_size);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (config, weights) = two_files(bytes);
    let folder = folder(&[(CONFIG_FILE, config), (WEIGHTS_FILE, weights)]);
    let Ok(source) = Source::open(folder.path()) else { return };
    let Ok(parameters) = source.parameters() else { return };
    for parameter in &parameters {
        assert_eq!(parameter.values().len(), parameter.info().elements());
    }
    dispatch(Name::Ndarray, Run(folder.path()));
});
