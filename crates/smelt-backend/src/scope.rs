//! What must surround a unit of work on a device.

/// Runs one unit of work: a training step, a batch of an evaluation, a decoded token.
///
/// On macOS, Metal objects that candle leaves behind are released at its end; over a whole run they would
/// pile up. Elsewhere nothing is added.
pub fn scoped<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(all(feature = "metal", target_os = "macos"))]
    {
        objc2::rc::autoreleasepool(|_| work())
    }
    #[cfg(not(all(feature = "metal", target_os = "macos")))]
    {
        work()
    }
}
