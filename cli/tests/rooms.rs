//! The house's rules, which the compiler does not hold: who may use whom, and where `unsafe` and IPMI's numbers stand
//! (ARCHITECTURE.md).

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is the parent")
}

/// The workspace's packages that each of them depends on. `product`: without what tests alone use.
fn uses(product: bool) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs, it has started this");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            let of_product = dependencies.filter(|dependency| !product || dependency["kind"] != "dev");
            let ours = of_product.map(|dependency| text(&dependency["name"]));
            let ours = ours.filter(|name| name.starts_with("lastwords") && *name != text(&package["name"]));
            (text(&package["name"]), ours.collect())
        })
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn core_uses_nobody_and_the_product_no_simulated_machine() {
    let product = uses(true);
    assert_eq!(product["lastwords-core"], set(&[]));
    assert_eq!(product["lastwords-purgatory"], set(&["lastwords-core"]));
    assert_eq!(product["lastwords-boot"], set(&["lastwords-core"]));
    assert_eq!(product["lastwords"], set(&["lastwords-boot", "lastwords-core"]));
    assert_eq!(product["lastwords-sim"], set(&["lastwords-core"]));
}

#[test]
fn the_judge_knows_nothing_of_the_product() {
    assert_eq!(uses(false)["lastwords-vm"], set(&[]));
}

/// The Rust files below a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder that is there").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder}");
    found
}

/// A file's lines without comments, up to its unit tests.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a source file");
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    product.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned()).collect()
}

/// core's rooms, each of which may use those before it.
const ROOMS: [&str; 16] = [
    "text", "cmdline", "numbers", "digest", "abi", "hw", "acpi", "arch", "budget", "device", "ipmi",
    "report", "crash", "store", "plan", "sequence",
];

#[test]
fn there_is_no_circle_in_core() {
    let inside = root().join("core/src");
    for path in sources("core/src").iter().filter(|path| !path.ends_with("src/lib.rs")) {
        let room =
            path.strip_prefix(&inside).expect("it is inside").iter().next().and_then(|name| name.to_str());
        let room = room.expect("a name").trim_end_matches(".rs");
        let before = ROOMS.iter().position(|other| *other == room);
        let before = &ROOMS[..=before.unwrap_or_else(|| panic!("{room} has no place among core's rooms"))];
        for line in code(path) {
            for (at, name) in line.match_indices("crate::") {
                let other = &line[at + name.len()..];
                let other = other.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next();
                let other = other.unwrap_or_default();
                assert!(before.contains(&other), "{}: {room} comes before {other}", path.display());
            }
        }
    }
}

#[test]
fn the_images_unsafe_code_is_in_its_architecture() {
    let inside = root().join("purgatory/src/arch");
    for path in sources("purgatory/src").iter().filter(|path| !path.starts_with(&inside)) {
        let found = code(path).into_iter().find(|line| line.contains("unsafe"));
        assert_eq!(found, None, "{}", path.display());
    }
}

#[test]
fn every_source_file_says_what_it_is_for() {
    for folder in ["core", "purgatory", "boot", "cli", "sim", "vm", "fuzz/fuzz_targets"] {
        for path in
            sources(folder).iter().filter(|path| !path.components().any(|part| part.as_os_str() == "target"))
        {
            let text = fs::read_to_string(path).expect("a source file");
            assert!(text.starts_with("//! "), "{}: begins without //!", path.display());
        }
    }
}

/// All that is printed goes through `message`, which lets nothing out that is not shown as itself. `help` prints our own texts,
/// `layout` asks whether there is a terminal.
#[test]
fn standard_output_is_in_one_place() {
    let allowed = ["message.rs", "help.rs", "layout.rs"];
    for path in sources("cli/src").iter().filter(|path| !allowed.iter().any(|name| path.ends_with(name))) {
        for line in code(path) {
            let found = ["io::stdout()", "io::stderr()", "anstream::std"]
                .into_iter()
                .find(|print| line.contains(print));
            assert_eq!(found, None, "{}: {line}", path.display());
        }
    }
}

/// Network functions and completion codes have names in core's `ipmi`, and are numbers nowhere else.
#[test]
fn ipmi_is_written_once() {
    let others =
        sources("core/src").into_iter().filter(|path| !path.starts_with(root().join("core/src/ipmi")));
    for path in others.chain(sources("cli/src")) {
        for line in code(&path) {
            let numbers = ["NetFn(0", "CompletionCode(0", "Refused(0", "Some(0xc", "Some(0xd"];
            let found = numbers.into_iter().find(|number| line.contains(number));
            assert_eq!(found, None, "{}: {line}", path.display());
        }
    }
}
