//! The surface of the command line: flags, help, completions, configs.

use std::fmt::Write as _;
use std::path::Path;

use clap::Arg;
use smelt_cli::config::RunConfig;

use crate::smelt::{Place, snapshot};

#[test]
fn the_flag_list_is_pinned() {
    let mut command = smelt_cli::command();
    command.build();
    let mut list = String::new();
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        writeln!(list, "{}", subcommand.get_name()).unwrap();
        for arg in subcommand.get_arguments() {
            writeln!(list, "  {}", described(arg)).unwrap();
        }
        for nested in subcommand.get_subcommands().filter(|nested| nested.get_name() != "help") {
            writeln!(list, "{} {}", subcommand.get_name(), nested.get_name()).unwrap();
            for arg in nested.get_arguments() {
                writeln!(list, "  {}", described(arg)).unwrap();
            }
        }
    }
    snapshot("flags", &list);
}

fn described(arg: &Arg) -> String {
    let long = arg.get_long().map(|name| format!("--{name}"));
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let takes_value = arg.get_num_args().is_some_and(|count| count.takes_values());
    let value = arg.get_value_names().unwrap_or_default().join(" ");
    match (names.is_empty(), takes_value) {
        (true, _) => format!("<{value}>"),
        (false, true) => format!("{} <{value}>", names.join(", ")),
        (false, false) => names.join(", "),
    }
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let place = Place::new();
    let mut command = smelt_cli::command();
    command.build();
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let name = subcommand.get_name();
        let help = place.done(&[name, "--help"]).stdout;
        assert!(help.contains(&format!("\n  smelt {name}")), "{help}");
        for nested in subcommand.get_subcommands().filter(|nested| nested.get_name() != "help") {
            let nested = nested.get_name();
            let help = place.done(&[name, nested, "--help"]).stdout;
            assert!(help.contains(&format!("\n  smelt {name} {nested}")), "{help}");
        }
    }
    snapshot("help", &place.done(&["--help"]).stdout);
}

#[test]
fn completions_know_the_commands() {
    let script = Place::new().done(&["completions", "bash"]).stdout;
    assert!(script.contains("smelt__subcmd__train") || script.contains("smelt__train"), "{script}");
}

#[test]
fn every_config_of_the_repository_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        RunConfig::from_file(&path).unwrap_or_else(|error| panic!("{error}"));
        seen.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    for name in ["quickstart", "tiny", "medium", "large", "xlarge"] {
        assert!(seen.iter().any(|seen| seen == name), "{seen:?}");
    }
}

#[test]
fn backends_and_doctor_report_as_json() {
    let place = Place::new();
    let backends = place.done(&["backends", "--json"]).records();
    let cpu = backends.iter().find(|record| record["name"] == "cpu").unwrap();
    assert_eq!(backends.len(), 6);
    assert_eq!((&cpu["in_build"], &cpu["self_test"]), (&true.into(), &true.into()));
    let [report] = &place.done(&["doctor", "--json"]).records()[..] else { panic!("one record") };
    assert!(report["memory_total_bytes"].as_u64().unwrap() > 0);
    let page = place.done(&["doctor"]).stdout;
    assert!(page.contains("CPU features") && page.contains("ndarray"), "{page}");
}
