//! Any text as an `adapter_config.json`, and any bytes as the weights beside it, of PEFT or of mlx-lm: what fits a small
//! model is put on it, computes, and becomes part of its weights.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smelt_backend::{Job, Kernels, Name, dispatch, int_tensor, to_host};
use smelt_fuzz::{folder, small_model, two_files};
use smelt_model::adapter::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, MLX_WEIGHTS_FILE};
use smelt_model::{Adapter, Decoder, ForwardInput, ModelConfig};

/// Runs a model with an adapter.
struct Run<'a>(&'a ModelConfig, &'a Adapter);

impl Job for Run<'_> {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let Self(config, adapter) = self;
        let Ok(mut model) = Decoder::<B>::init(config, 0, &device).with_adapter(config, adapter) else { return };
        for _ in 0..2 {
            let ids = int_tensor::<B, 2>(&[0, 1], [1, 2], &device);
            let logits = to_host(model.logits(model.hidden(ForwardInput::new(ids))));
            assert_eq!(logits.len(), 2 * config.decoder.vocab_size);
            model.merge_adapter();
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, files)) = bytes.split_first() else { return };
    let (config, weights) = two_files(files);
    let name = if kind % 2 == 0 { ADAPTER_WEIGHTS_FILE } else { MLX_WEIGHTS_FILE };
    let folder = folder(&[(ADAPTER_CONFIG_FILE, config), (name, weights)]);
    let model = small_model();
    let Ok(adapter) = Adapter::open(folder.path(), &model.family.names) else { return };
    dispatch(Name::Ndarray, Run(&model, &adapter));
});
