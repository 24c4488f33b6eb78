//! Models run on the host, whatever files they come from.

use smelt_backend::{Job, Kernels, dispatch, in_build, int_tensor, to_host};
use smelt_convert::Source;
use smelt_model::ForwardInput;
use smelt_model::weights::{LoadOptions, load_weights};

/// Logits of `ids` `[batch, seq]`, row-major.
pub fn logits(source: &Source, ids: &[u32], shape: [usize; 2]) -> Vec<f32> {
    struct Logits<'a>(&'a Source, &'a [u32], [usize; 2]);
    impl Job for Logits<'_> {
        type Output = Vec<f32>;
        fn run<B: Kernels>(self, device: B::Device) -> Vec<f32> {
            let Self(source, ids, shape) = self;
            let options = LoadOptions::default();
            let model = load_weights::<B>(&source.config, &source.checkpoint, options, &device).unwrap();
            to_host(model.logits(model.hidden(ForwardInput::new(int_tensor::<B, 2>(ids, shape, &device)))))
        }
    }
    dispatch(in_build()[0], Logits(source, ids, shape))
}

/// The values of a parameter by its key, as f32.
pub fn values(source: &Source, key: &str) -> Vec<f32> {
    let parameters = source.parameters().unwrap();
    let parameter = parameters.iter().find(|parameter| parameter.info().key == key);
    parameter.unwrap_or_else(|| panic!("no tensor `{key}`")).values()
}
