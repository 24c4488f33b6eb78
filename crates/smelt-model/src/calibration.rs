//! A model observed while it runs block by block, and its weights replaced on the way.
//!
//! What is made of the observations is for the caller: here is no method of quantization.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use smelt_backend::{Kernels, float_tensor, int_tensor, to_host};

use crate::blocks::observer::Observer;
use crate::blocks::{Linear, Matrix, Pass};
use crate::decoder::{Decoder, ForwardInput};
use crate::weights::transposed;

/// What enters a projection, over all rows that it saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputMoments {
    /// Rows seen.
    pub rows: usize,
    /// Sum of `|x_i|` over the rows, `[in_features]`.
    pub magnitudes: Vec<f64>,
    /// Sum of `x_i x_j` over the rows, `[in_features, in_features]`.
    pub products: Vec<f32>,
}

/// What enters the blocks for some sequences: the residual stream, and what the blocks of a pass share.
#[derive(Clone)]
pub struct Stream<B: Kernels>(Vec<(Tensor<B, 2>, Pass<B>)>);

impl<B: Kernels> Stream<B> {
    /// The residual stream of each sequence, `[rows, hidden_size]`.
    pub fn activations(&self) -> impl Iterator<Item = Tensor<B, 2>> {
        self.0.iter().map(|(x, _)| x.clone())
    }
}

impl<B: Kernels> Decoder<B> {
    /// What enters the first block.
    ///
    /// # Panics
    /// If a sequence is empty or does not fit the context; ids must be checked.
    pub fn stream(&self, sequences: &[Vec<u32>], device: &B::Device) -> Stream<B> {
        let embed = |ids: &Vec<u32>| self.embed(&ForwardInput::new(int_tensor(ids, [1, ids.len()], device)));
        Stream(sequences.iter().map(embed).collect())
    }

    /// Moves `stream` through block `layer`.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn advance(&self, layer: usize, stream: &mut Stream<B>) {
        for (x, pass) in &mut stream.0 {
            (*x, _) = self.layers[layer].forward(x.clone(), pass, &mut []);
        }
    }

    /// The projections of block `layer` by their paths in the model, with `[out_features, in_features]`.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block_projections(&self, layer: usize) -> Vec<(String, [usize; 2])> {
        let mut block = self.layers[layer].clone();
        let named = |(name, linear): (String, &mut Linear<B>)| {
            (format!("layers.{layer}.{name}"), linear.weight.dims())
        };
        block.linears_mut().map(named).collect()
    }

    /// What enters those projections of block `layer` that are at `paths`, in the order of these, where `stream` enters
    /// the block. Experts see what the router gives them, and perhaps nothing.
    ///
    /// Sums are in f32, in the order of the sequences.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn observed(
        &self,
        layer: usize,
        paths: &[String],
        stream: &Stream<B>,
        device: &B::Device,
    ) -> Vec<InputMoments> {
        let mut block = self.layers[layer].clone();
        let mut seen = BTreeMap::new();
        for (name, linear) in block.linears_mut() {
            let path = format!("layers.{layer}.{name}");
            if paths.contains(&path) {
                let ([_, features], device) = (linear.weight.dims(), device.clone());
                let moments = Arc::new(Mutex::new(InputMoments::default()));
                seen.insert(path, moments.clone());
                linear.observer = Some(Observer::new(move |values| {
                    moments
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add::<B>(&values, features, &device);
                }));
            }
        }
        for (x, pass) in &stream.0 {
            block.forward(x.clone(), pass, &mut []);
        }
        let taken = |path| {
            let moments: &Arc<Mutex<InputMoments>> = &seen[path];
            std::mem::take(&mut *moments.lock().unwrap_or_else(PoisonError::into_inner))
        };
        paths.iter().map(taken).collect()
    }

    /// What enters the head, where `stream` left the last block.
    pub fn observed_at_head(&self, stream: &Stream<B>, device: &B::Device) -> InputMoments {
        let mut moments = InputMoments::default();
        for (x, _) in &stream.0 {
            let x = self.norm.forward(x.clone());
            let [_, features] = x.dims();
            moments.add::<B>(&to_host(x), features, device);
        }
        moments
    }

    /// Puts `matrix` in place of that of the module at `path`.
    ///
    /// # Panics
    /// If there is no such module, or its matrix has another shape.
    pub fn put_matrix(&mut self, path: &str, matrix: Matrix<B>) {
        let found = self.matrices_mut().find(|(own, _)| own == path);
        let (_, own) = found.unwrap_or_else(|| panic!("no module `{path}`"));
        assert_eq!(own.dims(), matrix.dims(), "`{path}`");
        *own = matrix;
    }
}

impl InputMoments {
    /// Adds rows of `features`.
    fn add<B: Kernels>(&mut self, values: &[f32], features: usize, device: &B::Device) {
        let rows = values.len() / features;
        if rows == 0 {
            return;
        }
        let turned = float_tensor::<B, 2>(transposed(values, rows, features), [features, rows], device);
        let products = to_host(Kernels::linear(turned.clone(), turned, None));
        self.rows += rows;
        self.magnitudes.resize(features, 0.0);
        for row in values.chunks_exact(features) {
            self.magnitudes.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(value.abs()));
        }
        match self.products.is_empty() {
            true => self.products = products,
            false => self.products.iter_mut().zip(products).for_each(|(sum, more)| *sum += more),
        }
    }
}
