//! What a download brings, and what the next one need not.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use smelt_data::hub::{HubError, RepoId, RepoKind, Selection};

use crate::fake_hub::{COMMIT, FakeHub, Fixture, corpus, download, sha256};

fn assert_complete(fixture: &Fixture, folder: &Path) {
    for (name, content) in &fixture.fake.files {
        assert!(fs::read(folder.join(name)).unwrap() == *content, "{name} differs");
    }
}

#[test]
fn files_lie_in_the_cache_as_pythons_tools_expect_them() {
    let fixture = FakeHub::default().start();
    let snapshot = fixture.download().unwrap();
    assert_complete(&fixture, &snapshot.folder);
    assert_eq!((snapshot.commit.as_str(), snapshot.files), (COMMIT, 4));
    let total: usize = fixture.fake.files.values().map(Vec::len).sum();
    assert_eq!(snapshot.fetched_bytes, total as u64);

    let repo = fixture.cache.path().join("datasets--org--corpus");
    assert_eq!(snapshot.folder, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let large = &fixture.fake.files["data/train.parquet"];
    assert!(repo.join("blobs").join(sha256(large)).is_file());
    let link = fs::read_link(snapshot.folder.join("data/train.parquet")).unwrap();
    assert_eq!(link, Path::new("../../../blobs").join(sha256(large)));
    let left: Vec<_> = fs::read_dir(repo.join("blobs"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_second_download_asks_for_no_file() {
    let fixture = FakeHub::default().start();
    let first = fixture.download().unwrap();
    let asked = fixture.file_requests();
    let second = fixture.download().unwrap();
    assert_eq!(fixture.file_requests(), asked);
    assert_eq!((second.folder, second.fetched_bytes), (first.folder, 0));
}

#[test]
fn a_stopped_download_is_continued_by_the_next() {
    let fixture = FakeHub::default().start();
    let info = fixture.hub().info(&corpus()).unwrap();
    let large = Selection { include: vec!["*train*".to_owned()], exclude: Vec::new() };
    let mut stopped_at = 0;
    let stopped = fixture.hub().download(&info, &large, &mut |progress| {
        stopped_at = progress.done_bytes;
        assert_eq!((progress.number, progress.files, progress.size_bytes), (1, 1, Some(1_200_000)));
        if stopped_at > 400_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(HubError::Stopped)));
    assert!(fixture.hub().cached(&corpus()).is_err(), "the revision must not point at half a download");

    let mut first_report = None;
    let snapshot = fixture.hub().download(&info, &large, &mut |progress| {
        first_report.get_or_insert(progress.done_bytes);
        ControlFlow::Continue(())
    });
    assert_eq!(snapshot.unwrap().fetched_bytes, 1_200_000 - stopped_at);
    let last = fixture.server.requests().pop().unwrap();
    assert_eq!(last.range_start(), Some(stopped_at as usize));
    let path =
        fixture.cache.path().join("datasets--org--corpus/snapshots").join(COMMIT).join("data/train.parquet");
    assert!(fs::read(path).unwrap() == fixture.fake.files["data/train.parquet"]);
}

#[test]
fn offline_the_cache_is_enough_and_nobody_is_asked() {
    let fixture = FakeHub::default().start();
    let error = fixture.hub().cached(&corpus()).unwrap_err();
    assert!(error.to_string().starts_with("dataset `org/corpus` at `main` is not in the cache `"), "{error}");
    let snapshot = fixture.download().unwrap();
    let asked = fixture.server.requests().len();
    assert_eq!(fixture.hub().cached(&corpus()).unwrap().folder, snapshot.folder);
    let at_commit = corpus().at(COMMIT).unwrap();
    assert_eq!(fixture.hub().cached(&at_commit).unwrap().folder, snapshot.folder);
    assert_eq!(fixture.server.requests().len(), asked);
    assert!(fixture.hub().cached(&corpus().at("v2").unwrap()).is_err());
}

#[test]
fn a_selection_brings_what_it_names() {
    let fixture = FakeHub::default().start();
    let info = fixture.hub().info(&corpus()).unwrap();
    assert_eq!((info.license.as_deref(), info.is_gated), (Some("mit"), false));
    let fetch = |include: &str| {
        let selection = Selection { include: vec![include.to_owned()], exclude: vec!["*train*".to_owned()] };
        fixture.hub().download(&info, &selection, &mut |_| ControlFlow::Continue(()))
    };
    let snapshot = fetch("data/*").unwrap();
    assert_eq!(snapshot.files, 1);
    assert!(snapshot.folder.join("data/test é.parquet").is_file());
    assert!(!snapshot.folder.join("README.md").exists());
    let error = fetch("*.gz").unwrap_err().to_string();
    assert_eq!(error, "no file of dataset `org/corpus` at `main` is wanted: 4 files, none matches");
}

#[test]
fn a_token_opens_the_hub_and_does_not_leave_it() {
    let fixture =
        FakeHub { token: Some("secret"), card: r#""gated": "manual""#, ..FakeHub::default() }.start();
    let refused = download(&fixture.hub()).unwrap_err();
    assert!(matches!(refused, HubError::Denied { has_token: false, .. }), "{refused}");
    assert_eq!(
        refused.to_string(),
        "the hub refuses dataset `org/corpus` at `main`: Access to it is restricted"
    );
    assert!(download(&fixture.hub_with_token("other")).is_err());
    // The store asserts that no token reaches it.
    let snapshot = download(&fixture.hub_with_token("secret")).unwrap();
    assert_complete(&fixture, &snapshot.folder);
    assert!(fixture.hub_with_token("secret").info(&corpus()).unwrap().is_gated);
}

#[test]
fn what_the_hub_does_not_have_is_said() {
    let fixture = FakeHub::default().start();
    let missing = |kind, name| fixture.hub().info(&RepoId::new(kind, name).unwrap()).unwrap_err().to_string();
    assert_eq!(missing(RepoKind::Model, "org/corpus"), "the hub has no model `org/corpus` at `main`");
    assert_eq!(missing(RepoKind::Dataset, "org/corpus@v9"), "the hub has no dataset `org/corpus` at `v9`");
}
