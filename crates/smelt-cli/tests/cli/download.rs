//! `smelt data download`, and hub ids where a folder is expected, against a hub on this machine.

use std::fs;

use crate::server::{Reply, Request, Server};
use crate::smelt::{Place, Ran};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with the model `org/tiny`, which has a `config.json`, and the data set behind `wikitext`.
fn hub() -> Server {
    Server::start(|request, _| answer(request))
}

fn answer(request: &Request) -> Reply {
    let described = |file: &str| {
        let siblings = format!(r#"[{{"rfilename": "{file}"}}, {{"rfilename": "flax_model.msgpack"}}]"#);
        let json = format!(
            r#"{{"sha": "{COMMIT}", "siblings": {siblings}, "tags": ["license:apache-2.0"], "gated": false}}"#
        );
        Reply { body: json.into_bytes(), ..Reply::status(200) }
    };
    let found = |body: &str| {
        Reply { body: body.as_bytes().to_vec(), ..Reply::status(200) }
            .header("ETag", format!("\"{}-{}\"", body.len(), request.path.len()))
            .header("X-Repo-Commit", COMMIT)
    };
    match request.path.as_str() {
        "/api/models/org/tiny/revision/main" => described("config.json"),
        "/api/datasets/Salesforce/wikitext/revision/main" => described("wikitext-103-raw-v1/a.parquet"),
        path if path.ends_with(&format!("{COMMIT}/config.json")) => found("{\"model_type\": \"none\"}"),
        path if path.ends_with(&format!("{COMMIT}/wikitext-103-raw-v1/a.parquet")) => found("PAR1"),
        _ => Reply::status(404),
    }
}

fn smelt(place: &Place, hub: &Server, args: &[&str]) -> Ran {
    let mut command = place.command(args);
    command.env("HF_ENDPOINT", format!("http://{}", hub.address)).env("HF_HOME", place.path("home"));
    for variable in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
        command.env_remove(variable);
    }
    Ran::of(command)
}

#[test]
fn a_repository_is_downloaded_once_and_its_folder_printed() {
    let (place, hub) = (Place::new(), hub());
    let ran = smelt(&place, &hub, &["data", "download", "org/tiny"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("model `org/tiny` at `main`: licence apache-2.0\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1/1 config.json (22 B)\n"), "{}", ran.stderr);

    let asked = hub.requests().len();
    let offline = smelt(&place, &hub, &["data", "download", "org/tiny", "--offline", "--json"]);
    assert_eq!(offline.records()[0]["folder"], ran.stdout.trim_end());
    assert_eq!(hub.requests().len(), asked);
}

#[test]
fn a_corpus_shows_its_licence_and_wants_a_yes() {
    let (place, hub) = (Place::new(), hub());
    let refused = smelt(&place, &hub, &["data", "download", "wikitext"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    assert!(refused.stderr.contains("CC BY-SA 3.0") && refused.stderr.contains("accept it with `--yes`"));
    assert!(hub.requests().is_empty());

    let ran = smelt(&place, &hub, &["data", "download", "wikitext", "--yes", "--json"]);
    assert!(ran.stderr.contains("licence: CC BY-SA 3.0"), "{}", ran.stderr);
    let record = &ran.records()[0];
    assert_eq!((&record["id"], &record["kind"]), (&"Salesforce/wikitext".into(), &"dataset".into()));
    let folder = record["folder"].as_str().unwrap();
    assert_eq!(fs::read_to_string(format!("{folder}/wikitext-103-raw-v1/a.parquet")).unwrap(), "PAR1");
}

#[test]
fn a_hub_id_stands_for_its_folder() {
    let (place, hub) = (Place::new(), hub());
    let ran = smelt(&place, &hub, &["info", "org/tiny"]);
    // The folder came; what is in it is no model.
    assert!(ran.stderr.contains("1/1 config.json") && ran.stderr.contains("`none`"), "{}", ran.stderr);

    let missing = smelt(&place, &hub, &["info", "org/none"]);
    assert_eq!(
        missing.stderr,
        "error: there is no folder `org/none`, and it cannot be had from the hub\n  \
         cause: the hub has no model `org/none` at `main`\n  \
         hint: check the spelling; a private repository needs `HF_TOKEN`\n"
    );
    let asked = hub.requests().len();
    fs::create_dir(place.path("org")).unwrap();
    for path in ["org/misspelt", "runs/quickstart", "./org/tiny"] {
        let ran = smelt(&place, &hub, &["info", path]);
        assert!(ran.stderr.starts_with(&format!("error: cannot read `{path}`")), "{}", ran.stderr);
    }
    assert_eq!(hub.requests().len(), asked);
}

#[test]
fn offline_nobody_is_asked() {
    let (place, hub) = (Place::new(), hub());
    let ran = smelt(&place, &hub, &["info", "org/tiny", "--offline"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cause: model `org/tiny` at `main` is not in the cache `"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: leave out `--offline`"), "{}", ran.stderr);
    assert!(hub.requests().is_empty());
}
