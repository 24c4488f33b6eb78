//! A look at what enters projections, for those who quantize by it.

use std::fmt;
use std::sync::Arc;

/// Sees every matrix that enters a projection: its values, row by row.
///
/// A model that is used has none; copies of a block get some while the block is observed.
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(Vec<f32>) + Send + Sync>);

impl Observer {
    pub(crate) fn new(see: impl Fn(Vec<f32>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    pub(crate) fn see(&self, rows: Vec<f32>) {
        (self.0)(rows);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
