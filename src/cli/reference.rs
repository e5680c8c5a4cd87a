//! `docs/cli.md`, written from the definitions of the commands. A test tells when the file and they differ.

use clap::{Arg, Command, CommandFactory as _};

const HEAD: &str = "\
# Command line

Made from the definitions of the commands. Do not edit it: change the definition in `src/cli/`, then run
`UPDATE_DOCS=1 cargo test -p ragstone --lib cli::reference`.

Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 failed, 2 called wrongly. `NO_COLOR` switches colours off.
Progress is a bar on a terminal and a line every five seconds elsewhere. Ctrl-C stops cleanly, and what was acknowledged
stays; a second one ends the process at once.

Client commands talk to a running server (`--server`, else `RAGSTONE_SERVER`, else `http://127.0.0.1:7700`), or run without
one on a data directory (`--data-dir`); then nobody else may use that directory.

`eval --json` prints one object:

```json
{\"docs\": 5183, \"queries\": 300,
 \"ingest\": {\"docs_per_s\": 0.0, \"chunks\": 0, \"chunks_per_s\": 0.0, \"seconds\": 0.0, \"failed\": 0},
 \"modes\": {\"hybrid\": {\"ndcg_at_10\": 0.0, \"recall_at_100\": 0.0, \"p50_ms\": 0.0, \"p95_ms\": 0.0, \"p99_ms\": 0.0}}}
```

`bench vectors --json` prints one object. `filter` is null or a text as `attr0=7 (1.0 %)`, `uncorrelated 5 %`; `ef` is null
where the engine chose; `recall_at_10` is named after `--k`; with `--reuse` nothing is built, and what is said of building is null;
`grpc` is there unless `--in-process`. Memory and disk are those of the process that has the engine, `rss_anon_bytes` without
and `rss_file_bytes` of mapped files. With `--reuse` the process has only opened and searched; otherwise it has built, too:

```json
{\"points\": 200000, \"dimension\": 384, \"queries\": 2000, \"segments\": 1, \"build_s\": 0.0, \"insert_points_per_s\": 0.0,
 \"build_peak_rss_bytes\": 0, \"open_s\": 0.0, \"peak_rss_bytes\": 0, \"rss_bytes\": 0, \"rss_anon_bytes\": 0,
 \"rss_file_bytes\": 0, \"disk_bytes\": 0,
 \"rows\": [{\"target\": \"in_process|grpc\", \"clients\": 1, \"ef\": 64, \"filter\": null, \"recall_at_10\": 0.0, \"qps\": 0.0,
           \"p50_ms\": 0.0, \"p95_ms\": 0.0, \"p99_ms\": 0.0, \"server_cpu_us_per_query\": 0.0}],
 \"grpc\": {\"open_s\": 0.0, \"rss_bytes\": 0, \"rss_anon_bytes\": 0, \"rss_file_bytes\": 0, \"inserted_points\": 0,
          \"insert_points_per_s\": 0.0,
          \"insert_one_p50_ms\": 0.0, \"indexed_s\": 0.0, \"insert_rss_bytes\": 0, \"insert_peak_rss_bytes\": 0}}
```
";

fn reference() -> String {
    let mut command = super::Arguments::command();
    command.build();
    let mut text = HEAD.to_owned();
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        section(subcommand, &format!("ragstone {}", subcommand.get_name()), 2, &mut text);
    }
    text
}

fn section(command: &Command, name: &str, level: usize, text: &mut String) {
    text.push_str(&format!("\n{} {name}\n\n", "#".repeat(level)));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    text.push_str(&format!("{about}\n"));
    let subcommands: Vec<_> =
        command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if subcommands.is_empty() {
        let usage = command.clone().render_usage().to_string();
        text.push_str(&format!("\n```text\n{}\n```\n\n", usage.trim_start_matches("Usage: ").trim()));
        let hidden = ["help", "version"];
        for argument in
            command.get_arguments().filter(|argument| !hidden.contains(&argument.get_id().as_str()))
        {
            text.push_str(&format!("- `{}`: {}\n", signature(argument), description(argument)));
        }
    }
    for subcommand in subcommands {
        section(subcommand, &format!("{name} {}", subcommand.get_name()), level + 1, text);
    }
}

fn signature(argument: &Arg) -> String {
    let value = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
    let takes_value = argument.get_action().takes_values();
    match (argument.get_short(), argument.get_long()) {
        (None, None) => value,
        (short, long) => {
            let flags = [short.map(|short| format!("-{short}")), long.map(|long| format!("--{long}"))];
            let flags = flags.into_iter().flatten().collect::<Vec<_>>().join(", ");
            if takes_value { format!("{flags} {value}") } else { flags }
        }
    }
}

fn description(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        text.push_str(&format!(". One of {}", values.join(", ")));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        text.push_str(&format!(" (default: {})", defaults.join(",")));
    }
    text
}

#[test]
#[allow(clippy::unwrap_used, reason = "tests")]
fn docs_agree_with_the_commands() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let reference = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &reference).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/cli.md is out of date; run: UPDATE_DOCS=1 cargo test -p ragstone --lib cli::reference"
    );
}

#[test]
fn definitions_are_sound() {
    super::Arguments::command().debug_assert();
}

#[test]
fn the_names_of_the_contract_are_there() {
    let names: Vec<_> =
        super::Arguments::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in [
        "quickstart",
        "serve",
        "collection",
        "ingest",
        "import",
        "search",
        "get",
        "delete",
        "stats",
        "eval",
        "bench",
        "bench",
    ] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    let lines = [
        "quickstart --no-serve",
        "serve --config f --data-dir d --listen a:1 --watch a=b --watch c=d",
        "collection create c",
        "collection list",
        "collection show c",
        "collection delete c",
        "ingest a b --collection c --watch",
        "import a.parquet --collection c",
        "search words --collection c --mode hybrid --limit 3 --filter a=1 --json",
        "get a --collection c",
        "delete a --collection c",
        "stats",
        "eval --beir d --split test --modes keyword,vector,hybrid --json",
        "bench vectors --base f --queries f --ground-truth f --filter-attr f --ef 16,32 --clients 1,8 --in-process --json",
        "bench embed --out d a b",
        "search words --collection c --server http://a:1",
        "search words --collection c --data-dir d",
    ];
    for line in lines {
        let words = std::iter::once("ragstone").chain(line.split(' '));
        let parsed = super::Arguments::command().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{line}: {:?}", parsed.err().map(|error| error.to_string()));
    }
}
