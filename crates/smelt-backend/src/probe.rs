//! Asking drivers that answer by panicking.

use std::panic::{self, AssertUnwindSafe};

/// Runs `question`; a panic becomes its message, and nothing is printed.
///
/// GPU runtimes panic where a library, an adapter or a device is missing; whether one is there must be
/// asked before anything depends on it.
pub(crate) fn quietly<T>(question: impl FnOnce() -> T) -> Result<T, String> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let answer = panic::catch_unwind(AssertUnwindSafe(question));
    panic::set_hook(hook);
    answer.map_err(|payload| {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
        message.unwrap_or("the driver panicked").lines().next().unwrap_or_default().to_owned()
    })
}
