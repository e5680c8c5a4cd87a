//! The binary as a user calls it: exit codes, what goes to stdout, and the whole way from files to answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

/// Runs the binary away from any configuration of the machine.
fn ragstone(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ragstone"));
    command.args(arguments).env_remove("RAGSTONE_SERVER").env_remove("NO_COLOR").output().unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = ragstone(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(arguments: &[&str]) -> Json {
    let text = succeeds(arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

#[track_caller]
fn fails(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = ragstone(arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote data and failed");
    assert!(parts.iter().all(|part| message.contains(part)), "{arguments:?}: {message}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn wrong_calls_end_with_2_and_failures_with_1() {
    fails(&[], 2, &["Usage"]);
    fails(&["explode"], 2, &["explode"]);
    fails(&["search", "x", "--collection", "c", "--filter", "a ="], 2, &["filter, column 4", "^"]);
    fails(&["search", "x", "--collection", "c", "--server", "https://a"], 2, &["http://"]);
    fails(&["search", "x", "--collection", "c", "--server", "a:1", "--data-dir", "d"], 2, &["--data-dir"]);
    fails(&["serve", "--watch", "nonsense"], 2, &["DIR=COLLECTION"]);
    // Port 1 needs privileges to listen on; nobody does.
    let nowhere = "127.0.0.1:1";
    for command in [
        vec!["search", "x", "--collection", "c"],
        vec!["ingest", ".", "--collection", "c"],
        vec!["import", "a.parquet", "--collection", "c"],
        vec!["eval", "--beir", "samples"],
    ] {
        let arguments = [command.as_slice(), &["--server", nowhere]].concat();
        if command[0] == "eval" {
            fails(&arguments, 1, &["corpus.jsonl"]);
        } else {
            fails(&arguments, 1, &["no server answers", nowhere, "ragstone serve", "--data-dir"]);
        }
    }
    assert!(succeeds(&["--help"]).contains("quickstart"));
    assert!(succeeds(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn quickstart_answers_from_the_right_files() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["quickstart", "--no-serve", "--data-dir", text(data.path())];
    let first = succeeds(&arguments);
    let answers: Vec<&str> = first.lines().filter(|line| line.starts_with(" 1. ")).collect();
    let expected = [
        "coffee-manual.pdf",
        "incident-report.md",
        "durability.txt",
        "telescope-notes.txt",
        "travel-policy.docx",
    ];
    assert_eq!(answers.len(), expected.len(), "{first}");
    for (answer, file) in answers.iter().zip(expected) {
        assert!(answer.contains(file), "expected {file}: {answer}\n{first}");
    }
    assert!(answers[0].contains("page 2"), "{}", answers[0]);
    assert!(first.contains("*E4217*") && first.contains("vector ") && first.contains("keyword "), "{first}");
    // Nothing changed, so the second start says the same.
    assert_eq!(succeeds(&arguments), first);
}

#[test]
fn files_go_in_are_found_filtered_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(
        files.join("bees.md"),
        "# Bees\n\nWhen the hive is full, half of the bees leave with the old queen.",
    )
    .unwrap();
    std::fs::write(files.join("trains.txt"), "The night train to the coast leaves from platform nine.")
        .unwrap();
    std::fs::write(files.join("broken.pdf"), "%PDF-1.7 this is no document").unwrap();
    let (data, files) = (text(&data), text(&files));
    let target = ["--collection", "c", "--data-dir", data];
    let with = |arguments: &[&'static str]| [arguments, &target[..]].concat();

    fails(&[&["ingest", files], &target[..]].concat(), 1, &["there is no collection \"c\"", "--create"]);
    let summary = json(&[&["ingest", files, "--create", "--json"], &target[..]].concat());
    assert_eq!((&summary["indexed"], &summary["files"]), (&2.into(), &3.into()), "{summary}");
    assert!(summary["failed"][0]["file"].as_str().unwrap().ends_with("broken.pdf"), "{summary}");
    let again = json(&[&["ingest", files, "--json"], &target[..]].concat());
    assert_eq!((&again["indexed"], &again["unchanged"]), (&0.into(), &2.into()), "{again}");

    for mode in ["hybrid", "vector", "keyword"] {
        let found = json(&with(&["search", "night train", "--json", "--mode", mode]));
        let hit = &found["hits"][0];
        assert!(hit["uri"].as_str().unwrap().ends_with("/trains.txt"), "{mode}: {found}");
        assert_eq!(hit["vector_score"].is_null(), mode == "keyword", "{mode}: {found}");
    }
    let filtered = json(&with(&["search", "night train", "--json", "--filter", "file_ext = 'md'"]));
    assert_eq!(filtered["hits"].as_array().unwrap().len(), 1, "{filtered}");
    assert!(filtered["hits"][0]["uri"].as_str().unwrap().ends_with("/bees.md"), "{filtered}");
    fails(&with(&["search", "x", "--filter", "colour = 'red'"]), 1, &["colour", "file_ext"]);

    let id = filtered["hits"][0]["id"].as_str().unwrap().to_owned();
    let point = json(&[&["get", id.as_str(), "--json"], &target[..]].concat());
    assert_eq!(point[0]["payload"]["file_name"], "bees.md", "{point}");
    let stats = json(&with(&["stats", "--json"]));
    assert_eq!(stats["collections"][0]["documents"], 2, "{stats}");
    let deleted = json(&with(&["delete", "--json", "--filter", "file_ext = 'md'"]));
    assert_eq!(deleted["deleted"], 1, "{deleted}");
    fails(&[&["get", id.as_str()], &target[..]].concat(), 1, &["not found"]);
}

#[test]
fn rows_are_imported_and_bad_ones_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let rows = folder.path().join("rows.jsonl");
    let good = r#"{"key": "a", "v": [1, 0, 0], "body": "first", "year": 2020}"#;
    let bad = r#"{"key": "b", "v": [1, 0], "body": "second"}"#;
    std::fs::write(&rows, format!("{good}\n{bad}\n{}\n", good.replace("\"a\"", "\"c\""))).unwrap();
    let target = ["--data-dir", text(&data)];
    succeeds(&[&["collection", "create", "v", "--dimension", "3"], &target[..]].concat());
    let import = ["import", text(&rows), "--collection", "v", "--column", "id=key", "--column", "vector=v"];
    let output = ragstone(&[&import[..], &["--json"], &target[..]].concat());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    let summary: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["rows_written"], &summary["rows_rejected"]), (&2.into(), &1.into()), "{summary}");
    assert!(message.contains("rejected: ") && message.contains("row 2"), "{message}");
    let shown = json(&[&["collection", "show", "v", "--json"], &target[..]].concat());
    assert_eq!(shown["points"], 2, "{shown}");
    // A second run has nothing left to do.
    let again = json(&[&import[..], &["--json"], &target[..]].concat());
    assert_eq!(again["rows_written"], 0, "{again}");
}

#[test]
fn eval_prints_the_object_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = [
        ("d1", "Bread", "Flour, water and salt become dough; an oven does the rest."),
        ("d2", "Rain", "Clouds carry water from the sea to the mountains."),
        ("d3", "Chess", "The queen moves along rows, columns and diagonals."),
    ];
    let lines = corpus
        .map(|(id, title, text)| serde_json::json!({"_id": id, "title": title, "text": text}).to_string());
    std::fs::write(folder.path().join("corpus.jsonl"), lines.join("\n")).unwrap();
    let queries = "{\"_id\":\"q1\",\"text\":\"how is bread baked\"}\n{\"_id\":\"q2\",\"text\":\"moves of the queen\"}\n";
    std::fs::write(folder.path().join("queries.jsonl"), queries).unwrap();
    std::fs::create_dir(folder.path().join("qrels")).unwrap();
    std::fs::write(
        folder.path().join("qrels/test.tsv"),
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td3\t1\n",
    )
    .unwrap();
    let report = json(&["eval", "--beir", text(folder.path()), "--json"]);
    assert_eq!((&report["docs"], &report["queries"]), (&3.into(), &2.into()), "{report}");
    assert_eq!(report["ingest"]["chunks"], 3, "{report}");
    assert!(report["ingest"]["docs_per_s"].as_f64().unwrap() > 0.0, "{report}");
    for mode in ["keyword", "vector", "hybrid"] {
        let measured = &report["modes"][mode];
        assert_eq!(
            (&measured["ndcg_at_10"], &measured["recall_at_100"]),
            (&1.0.into(), &1.0.into()),
            "{mode}: {report}"
        );
        for key in ["p50_ms", "p95_ms", "p99_ms"] {
            assert!(measured[key].as_f64().unwrap() > 0.0, "{mode}.{key}: {report}");
        }
    }
}

/// Unit vectors around some centres, written as NumPy does.
fn write_vectors(path: &Path, rows: usize, dimension: usize, seed: u64) {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
    let mut centres = StdRng::seed_from_u64(3);
    let centres: Vec<Vec<f32>> =
        (0..50).map(|_| (0..dimension).map(|_| centres.random_range(-1.0..1.0)).collect()).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
    text.push_str(&" ".repeat(117 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(text.as_bytes());
    for _ in 0..rows {
        let centre = &centres[rng.random_range(0..centres.len())];
        bytes.extend(centre.iter().flat_map(|x| (x + rng.random_range(-0.5_f32..0.5)).to_le_bytes()));
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn bench_vectors_prints_the_object_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let [base, queries, data] = ["base.npy", "queries.npy", "data"].map(|name| folder.path().join(name));
    write_vectors(&base, 2_000, 32, 1);
    write_vectors(&queries, 100, 32, 2);
    let files = ["bench", "vectors", "--base", text(&base), "--queries", text(&queries), "--json"];
    let options = ["--ef", "auto,64", "--clients", "1,2", "--runs", "2"];
    let filters = ["--selectivity", "0.05", "--correlated", "--data-dir", text(&data)];
    let report = json(&[&files[..], &options[..], &filters[..]].concat());
    assert_eq!((&report["points"], &report["queries"]), (&2_000.into(), &100.into()), "{report}");
    for key in ["build_s", "insert_points_per_s", "open_s", "peak_rss_bytes", "rss_bytes", "disk_bytes"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    let rows = report["rows"].as_array().unwrap();
    // Targets, filters (one of them none), clients, beams.
    assert_eq!(rows.len(), 2 * 3 * 2 * 2, "{report}");
    for row in rows {
        assert!(row["recall_at_10"].as_f64().unwrap() > 0.9, "{row}");
        let [qps, p50, p95, p99] =
            ["qps", "p50_ms", "p95_ms", "p99_ms"].map(|key| row[key].as_f64().unwrap());
        assert!(qps > 0.0 && p50 > 0.0 && p50 <= p95 && p95 <= p99, "{row}");
        assert!(["in_process", "grpc"].contains(&row["target"].as_str().unwrap()), "{row}");
    }
    for filter in [Json::Null, "uncorrelated 5 %".into(), "correlated 5 %".into()] {
        assert_eq!(rows.iter().filter(|row| row["filter"] == filter).count(), 8, "{filter}: {report}");
    }
    assert_eq!(report["grpc"]["inserted_points"], 2_000, "{report}");

    fails(&[&files[..], &["--data-dir", text(&data), "--in-process"]].concat(), 1, &["--reuse"]);
    let again = [&files[..], &options[..], &["--reuse", text(&data), "--in-process"]].concat();
    let again = json(&again);
    assert!(again["build_s"].is_null() && again["rows"].as_array().unwrap().len() == 4, "{again}");
    let missing = ["--reuse", text(&data), "--selectivity", "0.5"];
    fails(&[&files[..], &missing[..]].concat(), 1, &["uncorrelated 50 %"]);
}

#[test]
fn bench_vectors_names_the_file_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let [base, narrow, cut, truth] =
        ["base.npy", "narrow.npy", "cut.npy", "gt.ivecs"].map(|name| folder.path().join(name));
    write_vectors(&base, 20, 8, 1);
    write_vectors(&narrow, 20, 4, 1);
    let whole = std::fs::read(&base).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    std::fs::write(&truth, [1, 0, 0, 0, 9, 0, 0, 0]).unwrap();
    let call = |base: &Path, queries: &Path, more: &[&str], parts: &[&str]| {
        let files = ["bench", "vectors", "--in-process", "--base", text(base), "--queries", text(queries)];
        fails(&[&files[..], more].concat(), 1, parts);
    };
    call(&cut, &base, &[], &["cut.npy", "truncated"]);
    call(&base, &folder.path().join("none.npy"), &[], &["none.npy"]);
    call(&base, &narrow, &[], &["narrow.npy", "4", "8"]);
    call(&base, &base, &["--ground-truth", text(&truth)], &["gt.ivecs", "1 rows for 20 queries"]);
    call(&base, &base, &["--filter-attr", text(&truth)], &["gt.ivecs", "the base has 20"]);
}

#[test]
fn sentences_are_found_and_their_parents_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, files) = (folder.path().join("data"), folder.path().join("files"));
    std::fs::create_dir_all(files.join("ops/bees")).unwrap();
    let section =
        "When the hive is full, half of the bees leave. The old queen goes with them. A new one stays.";
    let other = "Trains leave from platform nine. Tickets are sold at the gate.";
    std::fs::write(
        files.join("ops/bees/hive.md"),
        format!("# Hives\n\n## Swarms\n\n{section}\n\n# Trains\n\n{other}\n"),
    )
    .unwrap();
    let target = ["--collection", "c", "--data-dir", text(&data)];
    let ingest = ["ingest", text(&files), "--create", "--json", "--path-fields", "{team}/{project}/**"];
    let chunks = ["--chunk", "strategy=sentences", "--chunk", "parent_tokens=40"];
    succeeds(&[&ingest[..], &chunks, &target].concat());
    let search = |more: &[&str]| {
        json(&[&["search", "who leaves with the old queen", "--json"], more, &target[..]].concat())
    };
    let small = search(&["--filter", "team = 'ops'"]);
    assert_eq!(small["hits"][0]["text"], "The old queen goes with them.", "{small}");
    assert_eq!(small["hits"][0]["payload"]["project"], "bees", "{small}");
    let large = search(&["--parents"]);
    let hits = large["hits"].as_array().unwrap();
    let parents: Vec<&str> = hits.iter().map(|hit| hit["parent_text"].as_str().unwrap()).collect();
    assert!(
        parents[0].contains("half of the bees leave. The old queen goes with them. A new one stays."),
        "{large}"
    );
    assert!(!parents[0].contains("platform"), "{large}");
    assert_eq!(parents.len(), 2, "each parent comes once: {large}");
    assert!(search(&[])["hits"].as_array().unwrap().len() > 2);
}

#[test]
fn what_files_would_become_is_shown_without_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.md");
    std::fs::write(&file, "# Bees\n\nThey swarm. They hum.").unwrap();
    let shown = json(&["extract", text(&file), "--json", "--chunks", "--chunk", "strategy=sentences"]);
    assert_eq!((&shown["media_type"], &shown["title"]), (&"text/markdown".into(), &"Bees".into()));
    let chunks: Vec<&str> =
        shown["chunks"].as_array().unwrap().iter().map(|chunk| chunk["text"].as_str().unwrap()).collect();
    assert_eq!(chunks, ["# Bees\n\nThey swarm.", "They hum."], "{shown}");
    assert!(succeeds(&["extract", text(&file)]).contains("text/markdown"));
    fails(&["extract", text(&file), "--chunk", "max_tokens=99999"], 2, &["chunk.max_tokens"]);
    std::fs::write(&file, [0u8; 64]).unwrap();
    let output = ragstone(&["extract", text(&file)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not a readable format"));
}
