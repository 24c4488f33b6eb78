//! Test support of smelt: golden fixtures, the table of tolerances, tests over all backends.
//!
//! A dev-dependency only. Fixtures come from reference implementations (`tests/golden/README.md`), never
//! from smelt's own output. Panics on anything unexpected, as tests should.

mod golden;
mod numbers;
mod tolerance;

pub use golden::{Golden, HostTensor, golden_folder};
pub use numbers::numbers;
pub use tolerance::{Tolerance, assert_close, max_abs_difference};

/// A `#[test]` called `$name` that runs `$body::<B>(&device)` on every backend of the build that this machine
/// can run, and at least on one.
///
/// The calling crate must depend on `smelt-backend`; this crate itself knows no backend.
#[macro_export]
macro_rules! backend_test {
    ($name:ident, $body:ident) => {
        #[test]
        fn $name() {
            struct Case;
            impl ::smelt_backend::Job for Case {
                type Output = ();
                fn run<B: ::smelt_backend::Kernels>(self, device: B::Device) {
                    $body::<B>(&device)
                }
            }
            let mut ran = Vec::new();
            for name in ::smelt_backend::in_build() {
                let request = ::smelt_backend::Request { name: Some(name), ..Default::default() };
                match ::smelt_backend::select(&request) {
                    Ok(selection) => {
                        println!("on {name}");
                        ::smelt_backend::dispatch(selection.name, Case);
                        ran.push(name);
                    }
                    Err(reason) => println!("not on {name}: {reason}"),
                }
            }
            assert!(!ran.is_empty(), "no backend of this build runs here");
        }
    };
}
