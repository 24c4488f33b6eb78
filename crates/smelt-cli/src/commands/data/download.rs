//! `smelt data download`: a repository of a hub into the cache.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use smelt_data::hub::{Hub, HubError, RepoId, RepoInfo, RepoKind, Selection, Shortcut, Snapshot};

use crate::context::Context;
use crate::error::CliError;
use crate::hub::{fetch, open};
use crate::quantity::bytes;

const EXAMPLES: &str = "\
Examples:
  smelt data download wikitext --yes
  smelt data download bigcode/the-stack-smol --include 'data/shell/*'
  smelt data download openai-community/gpt2 --kind model --revision main

Short names of public corpora:
  wikitext     articles of the English Wikipedia
  tinystories  short stories in simple English
  bookcorpus   free English novels
  stack-shell  shell scripts of The Stack; its terms are accepted at the hub

The hub is `HF_ENDPOINT`, the login `HF_TOKEN`, the cache `HF_HOME`, shared with Python's tools.";

/// Arguments of `smelt data download`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DownloadArgs {
    /// Repository `ORG/NAME`, or a short name listed below
    #[arg(value_name = "ID")]
    id: String,
    /// What it is [default: a data set, or else a model]
    #[arg(long, value_name = "KIND", value_parser = ["dataset", "model"])]
    kind: Option<String>,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Files to download; may be given several times [default: all that are needed]
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Files to leave out; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Accept the licence of a corpus without being asked
    #[arg(long, short)]
    yes: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Record<'a> {
    id: &'a str,
    kind: String,
    commit: &'a str,
    license: Option<&'a str>,
    folder: &'a PathBuf,
    fetched_bytes: u64,
}

pub fn run(args: &DownloadArgs, context: &Context) -> Result<(), CliError> {
    let hub = open(context)?;
    let shortcut = Shortcut::find(&args.id);
    let candidates = candidates(args, shortcut)?;
    if hub.settings().offline {
        let (repo, snapshot) = first(&candidates, |repo| hub.cached(repo))?;
        return print(&repo, None, &snapshot, context);
    }
    if let Some(shortcut) = shortcut {
        agree(shortcut, args, context)?;
    }
    let (repo, info) = first(&candidates, |repo| hub.info(repo))?;
    say_gated(&hub, &info, context);
    let snapshot = fetch(&hub, &info, &selection(args, shortcut, &info), context)?;
    print(&repo, info.license.as_deref(), &snapshot, context)
}

/// What the id may mean, the likeliest first.
fn candidates(args: &DownloadArgs, shortcut: Option<Shortcut>) -> Result<Vec<RepoId>, CliError> {
    let kinds = match (&args.kind, shortcut) {
        (Some(kind), _) => vec![kind.parse()?],
        (None, Some(_)) => vec![RepoKind::Dataset],
        (None, None) => vec![RepoKind::Dataset, RepoKind::Model],
    };
    let id = shortcut.map_or(args.id.as_str(), |shortcut| shortcut.repo);
    let repo = |kind| match &args.revision {
        Some(revision) => RepoId::new(kind, id)?.at(revision),
        None => RepoId::new(kind, id),
    };
    Ok(kinds.into_iter().map(repo).collect::<Result<_, HubError>>()?)
}

/// The first of the repositories that there is; the last one's failure otherwise.
fn first<T>(
    candidates: &[RepoId],
    mut ask: impl FnMut(&RepoId) -> Result<T, HubError>,
) -> Result<(RepoId, T), CliError> {
    let (last, others) = candidates.split_last().expect("an id means something");
    for repo in others {
        match ask(repo) {
            // A hub does not tell a repository that is not there from one that may not be seen.
            Err(HubError::NotFound { .. } | HubError::Denied { .. } | HubError::Offline { .. }) => {}
            answer => return Ok((repo.clone(), answer?)),
        }
    }
    Ok((last.clone(), ask(last)?))
}

/// Shows the licence of a corpus and waits for a yes.
fn agree(shortcut: Shortcut, args: &DownloadArgs, context: &Context) -> Result<(), CliError> {
    let Shortcut { repo, about, license, .. } = shortcut;
    // Shown even with `--quiet`: who accepts it must have had the chance to read it.
    let terms = format!("{repo}: {about}\nlicence: {license}");
    if args.yes {
        context.output.note(&terms);
        return Ok(());
    }
    match context.output.confirm(&format!("{terms}\ndownload it?")) {
        Some(true) => Ok(()),
        Some(false) => Err(CliError::Interrupted { hint: None }),
        None => Err(CliError::Usage {
            message: format!("the licence of `{}` was not accepted: {license}", shortcut.name),
            hint: "accept it with `--yes`".to_owned(),
        }),
    }
}

fn say_gated(hub: &Hub, info: &RepoInfo, context: &Context) {
    if info.is_gated {
        let page = match info.repo.kind {
            RepoKind::Model => "",
            RepoKind::Dataset => "datasets/",
        };
        let (endpoint, name) = (&hub.settings().endpoint, info.repo.name());
        context.output.note(&format!("its terms have to be accepted at {endpoint}/{page}{name}"));
    }
}

fn selection(args: &DownloadArgs, shortcut: Option<Shortcut>, info: &RepoInfo) -> Selection {
    let mut selection = match (shortcut, info.repo.kind) {
        (Some(shortcut), _) => shortcut.selection(),
        (None, RepoKind::Model) if args.include.is_empty() => Selection::of_model(&info.files),
        (None, _) => Selection::default(),
    };
    if !args.include.is_empty() {
        selection.include.clone_from(&args.include);
    }
    selection.exclude.extend_from_slice(&args.exclude);
    selection
}

fn print(
    repo: &RepoId,
    license: Option<&str>,
    snapshot: &Snapshot,
    context: &Context,
) -> Result<(), CliError> {
    let Snapshot { folder, commit, fetched_bytes, .. } = snapshot;
    let record = Record {
        id: repo.name(),
        kind: repo.kind.to_string(),
        commit,
        license,
        folder,
        fetched_bytes: *fetched_bytes,
    };
    context.output.record(&record)?;
    context.output.note(&format!("{} came over the network", bytes(*fetched_bytes)));
    context.output.line(&folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use smelt_data::hub::SHORTCUTS;

    use super::*;

    #[test]
    fn the_help_lists_every_short_name() {
        for Shortcut { name, .. } in SHORTCUTS {
            assert!(EXAMPLES.contains(&format!("\n  {name} ")), "{name}");
        }
    }
}
