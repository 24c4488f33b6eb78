//! What can go wrong between a user's choice of backend and a running device.

use crate::{Name, Reason};

/// An error of backend selection.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The name is none of smelt's backends.
    #[error("unknown backend `{name}` (known: auto, {})", list(&Name::ALL))]
    UnknownName {
        /// What was given.
        name: String,
    },
    /// The build was made without the backend's cargo feature.
    #[error("backend `{name}` is not in this build (available: {})", list(&crate::in_build()))]
    NotInBuild {
        /// The backend asked for.
        name: Name,
    },
    /// The backend is in the build and cannot serve on this machine.
    #[error("backend `{name}` cannot be used: {reason}")]
    Unusable {
        /// The backend asked for.
        name: Name,
        /// Why not.
        reason: Reason,
    },
    /// No backend of the build can serve.
    #[error("no backend can be used: {}", reasons(.rejected))]
    NoneLeft {
        /// Every backend tried, with its reason.
        rejected: Vec<(Name, Reason)>,
    },
}

fn list(names: &[Name]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

pub(crate) fn reasons(rejected: &[(Name, Reason)]) -> String {
    rejected.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>().join("; ")
}
