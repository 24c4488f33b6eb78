//! Servers that break off, are busy, lie, or know half of HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicUsize;

use smelt_data::hub::{Hub, HubError, HubSettings};

use crate::fake_hub::{COMMIT, FakeHub, Fixture, chain, corpus, download, sha256};

fn train(fixture: &Fixture) -> &[u8] {
    &fixture.fake.files["data/train.parquet"]
}

/// Puts `content` where an earlier download would have left it.
fn leave_partial(fixture: &Fixture, content: &[u8]) {
    let blobs = fixture.cache.path().join("datasets--org--corpus/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(train(fixture)))), content).unwrap();
}

fn assert_whole(fixture: &Fixture) {
    let snapshot = fixture.download().unwrap();
    assert!(fs::read(snapshot.folder.join("data/train.parquet")).unwrap() == train(fixture));
}

#[test]
fn cut_connections_and_busy_hubs_are_tried_again() {
    let fixture =
        FakeHub { cuts: AtomicUsize::new(9), busy: AtomicUsize::new(4), ..FakeHub::default() }.start();
    assert_whole(&fixture);
    let starts: Vec<usize> =
        fixture.server.requests().iter().filter_map(|request| request.range_start()).collect();
    assert!(starts.len() > 2, "{starts:?}");
}

#[test]
fn a_hub_that_stays_busy_is_given_up() {
    let fixture = FakeHub { busy: AtomicUsize::new(usize::MAX), ..FakeHub::default() }.start();
    let error = fixture.download().unwrap_err();
    assert_eq!(
        chain(&error),
        "the download of `README.md` broke off at 0 bytes, 5 times in a row: the hub answered 503"
    );
}

#[test]
fn a_server_without_ranges_or_head_is_enough() {
    let fixture = FakeHub { knows_ranges: false, cuts: AtomicUsize::new(3), ..FakeHub::default() }.start();
    leave_partial(&fixture, &train(&fixture)[..1000]);
    assert_whole(&fixture);
    assert_whole(&FakeHub { knows_head: false, ..FakeHub::default() }.start());
}

#[test]
fn a_server_that_always_breaks_off_at_the_same_place_is_given_up() {
    let cuts = AtomicUsize::new(usize::MAX);
    let fixture = FakeHub { knows_ranges: false, cuts, ..FakeHub::default() }.start();
    let error = fixture.download().unwrap_err();
    assert!(matches!(error, HubError::Cut { attempts: 5, at_bytes: 600_000, .. }), "{error}");
}

#[test]
fn whatever_an_earlier_download_left_the_file_comes_whole() {
    let content = FakeHub::default().files["data/train.parquet"].clone();
    let too_long = [content.as_slice(), b"more"].concat();
    for left in [&[][..], &content[..7], &content, &too_long] {
        let fixture = FakeHub::default().start();
        leave_partial(&fixture, left);
        assert_whole(&fixture);
    }
}

#[test]
fn content_that_is_not_what_was_announced_is_refused_and_not_kept() {
    let fixture = FakeHub { is_corrupt: true, ..FakeHub::default() }.start();
    let error = fixture.download().unwrap_err();
    assert!(matches!(error, HubError::Checksum { algorithm: "Git hash", .. }), "{error}");

    // Rotten leftovers are noticed too, and the next attempt begins anew.
    let fixture = FakeHub::default().start();
    leave_partial(&fixture, &[0xFF; 1000]);
    let error = fixture.download().unwrap_err();
    assert!(matches!(error, HubError::Checksum { algorithm: "SHA-256", .. }), "{error}");
    assert!(error.to_string().starts_with("`data/train.parquet` arrived with SHA-256 "), "{error}");
    assert!(fixture.hub().cached(&corpus()).is_err());
    assert_whole(&fixture);
}

#[test]
fn names_that_would_leave_the_cache_are_refused() {
    for name in ["../../evil", "/etc/evil", "a/../../evil", "C:\\\\evil"] {
        let files = BTreeMap::from([(name.replace("\\\\", "\\"), b"x".to_vec())]);
        let fixture = FakeHub { files, ..FakeHub::default() }.start();
        let error = fixture.download().unwrap_err();
        assert!(error.to_string().contains("names no file of it"), "{error}");
        assert_eq!(fixture.file_requests(), 0);
    }
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    use crate::server::{Reply, Server};
    let cases = [
        (Reply::status(200), "not JSON: EOF"),
        (Reply { body: b"[]".to_vec(), ..Reply::status(200) }, "expected a commit as `sha`"),
        (Reply { body: b"{\"sha\": \"../x\"}".to_vec(), ..Reply::status(200) }, "expected a commit as `sha`"),
        (
            Reply { body: b"{\"sha\": \"abc\"}".to_vec(), ..Reply::status(200) },
            "expected a list as `siblings`",
        ),
        (Reply::status(302), "302 without a `Location`"),
        (Reply::status(302).header("Location", "ftp://x/y"), "it redirects to `ftp://x/y`"),
        (Reply::status(302).header("Location", "/again"), "it redirects without end"),
        (Reply::status(500), "the hub answered 500 for dataset `org/corpus` at `main`"),
    ];
    for (reply, expected) in cases {
        let fixture = FakeHub::default().start();
        let server = Server::start(move |_, _| Reply {
            status: reply.status,
            headers: reply.headers.clone(),
            body: reply.body.clone(),
            cut_after: None,
        });
        let endpoint = format!("http://{}", server.address);
        let error = download(&Hub::new(HubSettings { endpoint, ..fixture.settings() })).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_hub_that_is_not_there_is_named() {
    let fixture = FakeHub::default().start();
    // Port 1 of this machine: nobody listens there.
    let endpoint = "http://127.0.0.1:1".to_owned();
    let error = download(&Hub::new(HubSettings { endpoint, ..fixture.settings() })).unwrap_err();
    assert_eq!(error.to_string(), "cannot reach `http://127.0.0.1:1/api/datasets/org/corpus/revision/main`");
}

#[test]
fn two_processes_do_not_write_the_same_file() {
    let fixture = FakeHub::default().start();
    let locks = fixture.cache.path().join(".locks/datasets--org--corpus");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(train(&fixture))))).unwrap();
    lock.lock().unwrap();
    let error = fixture.download().unwrap_err();
    assert_eq!(error.to_string(), "another process downloads `data/train.parquet`");
    drop(lock);
    assert_whole(&fixture);
    assert_eq!(fixture.hub().cached(&corpus()).unwrap().commit, COMMIT);
}
