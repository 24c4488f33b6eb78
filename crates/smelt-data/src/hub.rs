//! Repositories of a Hugging Face hub, downloaded into the cache that Python tools use too.
//!
//! Files arrive resumably, are checked against the hash that the hub gives for them, and only then appear
//! in the cache. Blocks, and downloads one file after the other. Nothing is uploaded.

mod cache;
mod client;
mod download;
mod error;
mod repo;
mod selection;
mod settings;
mod shortcuts;
mod snapshot;

pub use error::HubError;
pub use repo::{RepoId, RepoKind};
pub use selection::Selection;
pub use settings::{HubSettings, Token};
pub use shortcuts::{SHORTCUTS, Shortcut};
pub use snapshot::{Hub, HubProgress, RepoInfo, Snapshot};
