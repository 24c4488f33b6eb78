//! AdamW with moments in 8 bits (Dettmers et al. 2021, arXiv:2110.02861).
//!
//! Between steps a moment is one byte per value and one f32 per block of 256, its largest magnitude. They lie
//! in host memory, and so is the update computed there, whatever the backend: parameter and gradient travel.
//! Small parameters keep f32 moments, as in bitsandbytes.

use std::sync::Arc;

use burn::tensor::TensorData;
use burn::tensor::ops::FloatTensor;
use rayon::prelude::*;
use smelt_backend::kernels::AdamWFactors;
use smelt_backend::{Kernels, to_host};

use super::adamw::{AdamW, MOMENTS};
use super::dynamic_code::DynamicCode;
use super::rule::{Rule, Step, Subject, flat, shape_of};
use super::slot::{Held, Place, Slot, Slots, State};

/// Values that share a magnitude.
const BLOCK: usize = 256;
/// Parameters of fewer values keep f32 moments.
const SMALL: usize = 4096;

pub(super) struct AdamW8bit {
    adamw: AdamW,
    first_code: DynamicCode,
    second_code: DynamicCode,
}

impl AdamW8bit {
    pub fn new(adamw: AdamW) -> Self {
        Self { adamw, first_code: DynamicCode::signed(), second_code: DynamicCode::unsigned() }
    }

    fn update_block(&self, block: Block<'_>, factors: &AdamWFactors) {
        let (mut first, mut second) = ([0f32; BLOCK], [0f32; BLOCK]);
        let length = block.values.len();
        let (first, second) = (&mut first[..length], &mut second[..length]);
        self.first_code.unpack(block.first, *block.first_absmax, first);
        self.second_code.unpack(block.second, *block.second_absmax, second);
        factors.update(block.values, block.gradient, first, second);
        *block.first_absmax = self.first_code.pack(first, block.first);
        *block.second_absmax = self.second_code.pack(second, block.second);
    }
}

/// One block of a parameter with its moments.
struct Block<'a> {
    values: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [u8],
    first_absmax: &'a mut f32,
    second: &'a mut [u8],
    second_absmax: &'a mut f32,
}

impl<B: Kernels> Rule<B> for AdamW8bit {
    fn slots(&self, shape: &[usize]) -> Slots {
        let elements: usize = shape.iter().product();
        if elements < SMALL {
            return Rule::<B>::slots(&self.adamw, shape);
        }
        let slot = |name, elements, place| Slot { name, shape: vec![elements], place };
        let blocks = elements.div_ceil(BLOCK);
        vec![
            slot(MOMENTS[0], elements, Place::HostBytes),
            slot("exp_avg_absmax", blocks, Place::HostFloats),
            slot(MOMENTS[1], elements, Place::HostBytes),
            slot("exp_avg_sq_absmax", blocks, Place::HostFloats),
        ]
    }

    fn update(&self, subject: Subject<B>, state: State<B>, step: &Step) -> (FloatTensor<B>, State<B>) {
        if let [Held::Tensor(_), ..] = state[..] {
            return self.adamw.update(subject, state, step);
        }
        let state = <[Held<B>; 4]>::try_from(state);
        let [first, first_absmax, second, second_absmax] = state.expect("as many values as slots");
        let (mut first, mut first_absmax) = (bytes(first), floats(first_absmax));
        let (mut second, mut second_absmax) = (bytes(second), floats(second_absmax));
        let factors = AdamWFactors::of(&self.adamw.numbers(subject.weight_decay, step));
        let (shape, device) = (shape_of::<B>(&subject.value), B::float_device(&subject.value));
        let gradient = to_host(flat::<B>(subject.gradient));
        let mut values = to_host(flat::<B>(subject.value));
        values
            .par_chunks_mut(BLOCK)
            .zip(gradient.par_chunks(BLOCK))
            .zip(first.par_chunks_mut(BLOCK).zip(&mut first_absmax))
            .zip(second.par_chunks_mut(BLOCK).zip(&mut second_absmax))
            .for_each(|(((values, gradient), (first, first_absmax)), (second, second_absmax))| {
                let block = Block { values, gradient, first, first_absmax, second, second_absmax };
                self.update_block(block, &factors);
            });
        let values = B::float_from_data(TensorData::new(values, shape).convert::<B::FloatElem>(), &device);
        let moments = [Held::Bytes(first.into()), Held::Floats(first_absmax.into())];
        (
            values,
            moments
                .into_iter()
                .chain([Held::Bytes(second.into()), Held::Floats(second_absmax.into())])
                .collect(),
        )
    }
}

fn bytes<B: Kernels>(held: Held<B>) -> Vec<u8> {
    match held {
        Held::Bytes(values) => Arc::unwrap_or_clone(values),
        Held::Tensor(_) | Held::Floats(_) => unreachable!("the slot holds bytes"),
    }
}

fn floats<B: Kernels>(held: Held<B>) -> Vec<f32> {
    match held {
        Held::Floats(values) => Arc::unwrap_or_clone(values),
        Held::Tensor(_) | Held::Bytes(_) => unreachable!("the slot holds host floats"),
    }
}
