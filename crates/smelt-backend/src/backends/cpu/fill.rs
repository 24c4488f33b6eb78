//! Buffers, filled by all threads: for large ones that takes about as long as to compute what they are for.

use std::mem::MaybeUninit;

use super::team;

/// Numbers that one thread writes at a time, about.
const TASK: usize = 1 << 14;

/// `len` zeros.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    filled(len, TASK, |part| part.fill(MaybeUninit::new(0.0)))
}

/// `row`, as often as asked for.
pub(super) fn repeated(row: &[f32], times: usize) -> Vec<f32> {
    let task = TASK.div_ceil(row.len().max(1)) * row.len().max(1);
    filled(row.len() * times, task, |rows| {
        for to in rows.chunks_exact_mut(row.len()) {
            to.write_copy_of_slice(row);
        }
    })
}

/// `len` numbers, which `fill` writes `task` at a time.
fn filled(len: usize, task: usize, fill: impl Fn(&mut [MaybeUninit<f32>]) + Sync) -> Vec<f32> {
    let mut all = Vec::with_capacity(len);
    team::for_each(all.spare_capacity_mut()[..len].chunks_mut(task), fill);
    // SAFETY: both callers write every number of the parts, which make up all.
    #[allow(unsafe_code, reason = "what is written in parts is whole at the end")]
    unsafe {
        all.set_len(len);
    }
    all
}
