//! The one seam between a name chosen at run time and code generic over the backend.

use crate::backends::{Driver, with_driver};
use crate::{Kernels, Name, scoped};

/// Work that runs on whatever backend was selected.
pub trait Job {
    /// What the work yields; no tensor can leave, since the backend's type ends here.
    type Output;

    /// Does the work on `device`.
    fn run<B: Kernels>(self, device: B::Device) -> Self::Output;
}

/// Runs `job` on the backend called `name`.
///
/// # Panics
/// If the backend is not in this build or its device is gone: call [`select`](crate::select) first.
pub fn dispatch<J: Job>(name: Name, job: J) -> J::Output {
    with_driver!(name, D => run_on::<D, J>(name, job), else panic!("backend `{name}` is not in this build"))
}

fn run_on<D: Driver, J: Job>(name: Name, job: J) -> J::Output {
    let opened =
        D::open().unwrap_or_else(|reason| panic!("backend `{name}` was selected and now fails: {reason}"));
    scoped(|| job.run::<D::Backend>(opened.device))
}
