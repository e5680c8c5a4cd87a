//! The documentation against the repository: paths and links that it names exist, every dependency is in its table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Pieces of inline code that are paths of the repository.
fn named_paths(text: &str) -> BTreeSet<String> {
    let folders = ["proto/", "index/", "ingest/", "src/", "docs/", "tests/", "benches/", "samples/", ".ci/"];
    let inline = text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    // `file: function` names a function behind the path.
    let paths = inline.map(|code| code.split(':').next().unwrap_or_default().trim().to_owned());
    paths
        .filter(|path| folders.iter().any(|folder| path.starts_with(folder)) && !path.contains([' ', '*']))
        .collect()
}

#[test]
fn the_architecture_names_paths_that_exist() {
    let paths = named_paths(&read("docs/ARCHITECTURE.md"));
    assert!(paths.len() > 40, "the test has lost sight of the paths: {paths:?}");
    let missing: Vec<_> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md names what is not there: {missing:?}");
}

#[test]
fn the_architecture_names_functions_that_exist() {
    let text = read("docs/ARCHITECTURE.md");
    let inline: Vec<&str> =
        text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2)).collect();
    let named: Vec<_> = inline.iter().filter_map(|code| code.split_once(".rs: ")).collect();
    assert!(named.len() > 5, "{named:?}");
    for (file, function) in named {
        let source = read(&format!("{}.rs", file.replace('\n', " ")));
        let name = function.rsplit("::").next().unwrap_or(function);
        let found =
            [format!("fn {name}("), format!("fn {name}<")].iter().any(|wanted| source.contains(wanted));
        assert!(found, "{file}.rs has no function {name}");
    }
}

#[test]
fn every_dependency_is_in_the_table() {
    let manifest = read("Cargo.toml");
    let section =
        manifest.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let names = section.lines().filter_map(|line| line.split_once(" =").map(|(name, _)| name.trim()));
    let architecture = read("docs/ARCHITECTURE.md");
    let table = architecture.split("## Dependencies").nth(1).unwrap();
    let missing: Vec<_> = names
        .filter(|name| !name.starts_with('#') && !name.starts_with("ragstone-"))
        .filter(|name| !table.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md, Dependencies: {missing:?} are missing");
}

#[test]
fn links_lead_somewhere() {
    for page in
        ["README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/operations.md", "docs/ARCHITECTURE.md"]
    {
        let text = read(page);
        let folder = Path::new(page).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.starts_with("http") && !link.starts_with('#') {
                assert!(root().join(folder).join(link).exists(), "{page} links to {link}");
            }
        }
    }
}

#[test]
fn the_readme_gives_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo run --release -- quickstart", "cargo test --workspace"] {
        assert!(readme.lines().any(|line| line == command), "{command}");
    }
}
