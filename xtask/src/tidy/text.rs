//! Rules on every file: nothing in the tree knows the machine or the network it was written on.

use super::Finding;

/// First folders of absolute paths that exist on one machine only.
const MACHINE_FOLDERS: [&str; 7] = ["work", "root", "farm", "tmp", "home", "Users", "opt"];

/// Package registries: where packages come from is the business of each machine's settings.
const REGISTRY_HOSTS: [&str; 7] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("deb.debian", ".org"),
    concat!("debian", ".net"),
    concat!("npmjs", ".org"),
    concat!("conda.anaconda", ".org"),
];

/// Training text, not instructions: scripts in it may name any path.
const CORPUS: &str = "crates/smelt-cli/assets/corpus/";

/// Every rule on one file of text.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = |message: String| Finding::new(path, index + 1, message);
        if !path.starts_with(CORPUS) {
            findings.extend(machine_path(line).map(|folder| at(format!("path of one machine: `{folder}`"))));
        }
        // The lock file names the public index; `crates` checks that it names no other.
        if path != "Cargo.lock" {
            let host = REGISTRY_HOSTS.into_iter().find(|host| line.contains(host));
            findings.extend(host.map(|host| at(format!("host of a package registry: `{host}`"))));
        }
    }
    findings
}

/// The rule on paths for a file that is no text: models and archives note the names they were made from.
///
/// What stands before a path there is a length or a tag, so nothing tells a relative one.
pub fn check_binary(path: &str, bytes: &[u8]) -> Vec<Finding> {
    let folders = MACHINE_FOLDERS.into_iter().map(|folder| format!("/{folder}/"));
    let found =
        folders.filter(|folder| bytes.windows(folder.len()).any(|window| window == folder.as_bytes()));
    found.map(|folder| Finding::new(path, 0, format!("path of one machine: `{folder}`"))).collect()
}

/// The first absolute path of the line that begins in a machine's own folder.
fn machine_path(line: &str) -> Option<String> {
    MACHINE_FOLDERS.into_iter().map(|folder| format!("/{folder}/")).find(|folder| {
        line.match_indices(folder.as_str()).any(|(offset, _)| {
            let before = line[..offset].chars().next_back();
            // A path goes on to the left, as in `target/tmp/`.
            before.is_none_or(|c| !c.is_alphanumeric() && !"._-~$*})/".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_a_machine_are_found() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(check("README.md", &format!("see `/{folder}/data`")).len(), 1, "{folder}");
            assert_eq!(check("README.md", &format!("/{folder}/data")).len(), 1, "{folder}");
        }
    }

    #[test]
    fn absolute_paths_are_found_behind_their_length() {
        for folder in MACHINE_FOLDERS {
            let bytes = [&[0xff, b'G'][..], format!("/{folder}/corpus").as_bytes()].concat();
            assert_eq!(check_binary("model.bin", &bytes).len(), 1, "{folder}");
        }
        assert!(check_binary("model.bin", b"\xffGcorpus/model").is_empty());
    }

    #[test]
    fn relative_and_system_paths_are_not() {
        for path in ["target/tmp/x", "~/work/x", "$HOME/work/x", "${dir}/tmp/x", "../root/x", "/usr/share/x"]
        {
            assert!(check("README.md", path).is_empty(), "{path}");
        }
        assert!(check(&format!("{CORPUS}locks.md"), &format!("touch /{}/job.lock", "tmp")).is_empty());
    }

    #[test]
    fn registry_hosts_are_found_outside_of_the_lock_file() {
        for host in REGISTRY_HOSTS {
            assert_eq!(check(".ci/run", &format!("url = https://{host}/simple")).len(), 1, "{host}");
            assert!(check("Cargo.lock", &format!("source = \"{host}\"")).is_empty(), "{host}");
        }
    }
}
