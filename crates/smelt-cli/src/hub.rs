//! Hub ids where a folder is expected, and what a download shows while it runs.

use std::path::{Path, PathBuf};

use smelt_data::hub::{
    Hub, HubError, HubProgress, HubSettings, RepoId, RepoInfo, RepoKind, Selection, Snapshot,
};

use crate::config::RunConfig;
use crate::context::Context;
use crate::error::CliError;
use crate::output::Output;
use crate::progress::{Progress, Unit};
use crate::quantity::bytes;

/// Folder of the runs, which is no organisation of a hub even before the first run.
const RUNS: &str = "runs";

/// The folder that `path` means: itself, or, where there is nothing of that name, the files of the hub's
/// repository `ORG/NAME`, downloaded into the cache.
///
/// # Errors
/// [`CliError::NeitherFolderNorRepo`] if the repository cannot be had; [`CliError::Interrupted`].
pub fn local_folder(path: &Path, kind: RepoKind, context: &Context) -> Result<PathBuf, CliError> {
    let Some(repo) = RepoId::from_missing_path(kind, path).filter(|_| !path.starts_with(RUNS)) else {
        return Ok(path.to_owned());
    };
    match bring(&repo, context) {
        Ok(snapshot) => Ok(snapshot.folder),
        Err(CliError::Hub(source)) => Err(CliError::NeitherFolderNorRepo { path: path.to_owned(), source }),
        Err(error) => Err(error),
    }
}

/// Puts folders in place of all hub ids of a run config.
///
/// # Errors
/// As [`local_folder`].
pub fn localize(config: &mut RunConfig, context: &Context) -> Result<(), CliError> {
    let models = config.model.path.iter_mut().chain(&mut config.data.tokenizer);
    let models = models.map(|path| (path, RepoKind::Model));
    let data = config.data.paths.iter_mut().map(|path| (path, RepoKind::Dataset));
    for (path, kind) in models.chain(data) {
        *path = local_folder(path, kind, context)?;
    }
    Ok(())
}

fn bring(repo: &RepoId, context: &Context) -> Result<Snapshot, CliError> {
    let hub = open(context)?;
    if hub.settings().offline {
        return Ok(hub.cached(repo)?);
    }
    let info = hub.info(repo)?;
    let selection = match repo.kind {
        RepoKind::Model => Selection::of_model(&info.files),
        RepoKind::Dataset => Selection::default(),
    };
    fetch(&hub, &info, &selection, context)
}

/// The hub of this process's settings.
///
/// # Errors
/// [`CliError::Hub`] if these are wrong.
pub fn open(context: &Context) -> Result<Hub, CliError> {
    let settings = HubSettings::from_env()?;
    Ok(Hub::new(HubSettings { offline: settings.offline || context.offline, ..settings }))
}

/// Downloads what is wanted of a repository, showing how far it is.
///
/// # Errors
/// [`CliError::Hub`]; [`CliError::Interrupted`] after Ctrl-C.
pub fn fetch(
    hub: &Hub,
    info: &RepoInfo,
    selection: &Selection,
    context: &Context,
) -> Result<Snapshot, CliError> {
    let license = info.license.as_deref().unwrap_or("not stated");
    context.output.note(&format!("{}: licence {license}", info.repo));
    let mut shown = Shown { output: context.output, current: None };
    let snapshot = hub.download(info, selection, &mut |progress| {
        shown.tell(progress);
        context.interrupt.flow()
    });
    match snapshot {
        Err(HubError::Stopped) => {
            let hint = "the same command continues where this one stopped".to_owned();
            Err(CliError::Interrupted { hint: Some(hint) })
        }
        snapshot => Ok(snapshot?),
    }
}

/// The progress of one file after the other.
struct Shown {
    output: Output,
    /// Number of the file, and its bar.
    current: Option<(usize, Progress)>,
}

impl Shown {
    fn tell(&mut self, progress: HubProgress<'_>) {
        let HubProgress { file, number, files, done_bytes, size_bytes } = progress;
        if let Some((_, bar)) = self.current.as_ref().filter(|(current, _)| *current == number) {
            return bar.advance(done_bytes, || format!("{number}/{files} {file}"));
        }
        // The bar before this one goes first.
        self.current = None;
        let bar = Progress::start(self.output, "download", Unit::Bytes, size_bytes.unwrap_or(0), done_bytes);
        if !bar.has_bar() {
            let size = size_bytes.map_or(String::new(), |size| format!(" ({})", bytes(size)));
            bar.line(&format!("{number}/{files} {file}{size}"));
        }
        self.current = Some((number, bar));
    }
}
