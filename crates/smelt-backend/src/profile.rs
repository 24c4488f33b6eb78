//! Spans of training, for a profiler: the phases of a step, and the kernels in them.
//!
//! They cost nothing to speak of while nobody listens to [`TARGET`]. On a device that computes while the program
//! goes on, a kernel's span is the time to submit it, and who waits for a number has its time as well.

use tracing::span::EnteredSpan;
use tracing::trace_span;

/// The target of the spans; their names are `phase`, `forward` and `backward`, with a field `name`.
pub const TARGET: &str = "smelt::profile";

/// Does `work`, a phase of training.
pub fn phase<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    trace_span!(target: TARGET, "phase", name).in_scope(work)
}

/// The forward of a kernel under autodiff.
pub(crate) fn forward(name: &'static str) -> EnteredSpan {
    trace_span!(target: TARGET, "forward", name).entered()
}

/// The backward of a kernel.
pub(crate) fn backward(name: &'static str) -> EnteredSpan {
    trace_span!(target: TARGET, "backward", name).entered()
}
