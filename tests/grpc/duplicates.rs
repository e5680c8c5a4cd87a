//! Documents of the same content: stored once, found under each of their names, never lost while one of them is there.

use std::path::Path;

use ragstone_proto::v1;
use ragstone_proto::v1::ingest_document_request::Content;

use crate::harness::{TestServer, eventually, payload, word};

fn document(id: &str, text: &str, duplicates: v1::Duplicates) -> v1::IngestDocumentRequest {
    v1::IngestDocumentRequest {
        collection: "c".into(),
        document_id: id.into(),
        file_name: format!("{id}.md"),
        content: Some(Content::Data(text.as_bytes().to_vec().into())),
        duplicates: duplicates.into(),
        ..Default::default()
    }
}

async fn ingest(server: &TestServer, request: v1::IngestDocumentRequest) -> v1::IngestDocumentResponse {
    server.ingest().ingest_document(request).await.unwrap().into_inner()
}

async fn record(server: &TestServer, id: &str) -> v1::Document {
    let request = v1::GetDocumentRequest { collection: "c".into(), document_id: id.into() };
    server.ingest().get_document(request).await.unwrap().into_inner().document.unwrap()
}

async fn hits(server: &TestServer, text: &str) -> Vec<v1::Hit> {
    let request = v1::SearchRequest {
        collection: "c".into(),
        mode: v1::SearchMode::Keyword.into(),
        text: Some(text.into()),
        ..Default::default()
    };
    server.search(request).await.hits
}

fn names(places: &[v1::Location]) -> Vec<&str> {
    places.iter().map(|at| at.document_id.rsplit('/').next().unwrap()).collect()
}

#[tokio::test]
async fn a_document_is_linked_where_it_differs_in_its_place_only() {
    use v1::{DocumentOutcome, Duplicates};
    let server = TestServer::start().await;
    server.create("c").await;
    let text = "# Heron\n\nThe grey heron waits in shallow water.";
    let link = |id: &str| document(id, text, Duplicates::Link);
    assert_eq!(ingest(&server, link("a")).await.outcome(), DocumentOutcome::Indexed);
    let linked = ingest(&server, link("b")).await;
    assert_eq!((linked.outcome(), linked.chunks), (DocumentOutcome::Linked, 1));
    assert!(linked.seq_no > 0);
    assert_eq!(ingest(&server, link("b")).await.outcome(), DocumentOutcome::Unchanged);
    assert_eq!(server.count("c").await, 1);

    // Metadata may be what keeps two readers apart: it is never given up. Nor is another way to read the bytes.
    let tenant = |id: &str, name: &str| v1::IngestDocumentRequest {
        metadata: payload([("tenant", word(name))]),
        ..link(id)
    };
    assert_eq!(ingest(&server, tenant("t1", "one")).await.outcome(), DocumentOutcome::Indexed);
    assert_eq!(ingest(&server, tenant("t2", "two")).await.outcome(), DocumentOutcome::Indexed);
    assert_eq!(ingest(&server, tenant("t3", "two")).await.outcome(), DocumentOutcome::Linked);
    let plain = v1::IngestDocumentRequest { file_name: "p.txt".into(), ..link("p") };
    assert_eq!(ingest(&server, plain).await.outcome(), DocumentOutcome::Indexed);
    let titled = v1::IngestDocumentRequest { title: "Birds".into(), ..link("q") };
    assert_eq!(ingest(&server, titled).await.outcome(), DocumentOutcome::Indexed);
    let ending = v1::IngestDocumentRequest { ttl_seconds: Some(3_600), ..link("e") };
    assert_eq!(ingest(&server, ending).await.outcome(), DocumentOutcome::Indexed);
    // Nobody asked for links here.
    assert_eq!(
        ingest(&server, document("k", text, Duplicates::Unspecified)).await.outcome(),
        DocumentOutcome::Indexed
    );

    let (a, b) = (record(&server, "a").await, record(&server, "b").await);
    assert_eq!((names(&a.also_at), a.also_at_total), (vec!["b"], 1));
    assert_eq!((b.state(), b.linked_to.as_str()), (v1::DocumentState::Linked, "a"));
    assert_eq!((b.chunks, b.title.as_str()), (1, "Heron"));
    let found = hits(&server, "heron").await;
    let hit = found.iter().find(|hit| hit.origin.as_ref().unwrap().document_id == "a").unwrap();
    assert_eq!(names(&hit.also_at), ["b"]);
    assert!(found.iter().all(|hit| hit.origin.as_ref().unwrap().document_id != "b"));

    // Asked to be kept, it gets points of its own; changed, it leaves the other alone.
    assert_eq!(
        ingest(&server, document("b", text, Duplicates::Keep)).await.outcome(),
        DocumentOutcome::Indexed
    );
    assert_eq!(record(&server, "a").await.also_at_total, 0);
    let bad = v1::IngestDocumentRequest { duplicates: 99, ..link("x") };
    crate::harness::refused(
        server.ingest().ingest_document(bad).await,
        tonic::Code::InvalidArgument,
        "duplicates",
    );
}

#[tokio::test]
async fn a_link_takes_over_what_is_deleted_or_changed() {
    use v1::{DocumentOutcome, Duplicates};
    let mut server = TestServer::start().await;
    server.create("c").await;
    let text = "The kingfisher dives from a branch.";
    for id in ["a", "b", "c"] {
        ingest(&server, document(id, text, Duplicates::Link)).await;
    }
    server.restart().await;
    let delete = v1::DeleteDocumentsRequest {
        collection: "c".into(),
        document_ids: vec!["a".into(), "nosuch".into()],
    };
    assert_eq!(server.ingest().delete_documents(delete).await.unwrap().into_inner().deleted, 1);
    let found = hits(&server, "kingfisher").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].origin.as_ref().unwrap().document_id, "b");
    assert_eq!(names(&found[0].also_at), ["c"]);
    // The payload tells the new place.
    let name = found[0].payload.as_ref().unwrap().fields.get("file_name").cloned();
    assert_eq!(name, Some(word("b.md")));

    let changed = document("b", "The dipper walks under water.", Duplicates::Link);
    assert_eq!(ingest(&server, changed).await.outcome(), DocumentOutcome::Indexed);
    server.restart().await;
    let found = hits(&server, "kingfisher").await;
    assert_eq!((found.len(), found[0].also_at_total), (1, 0));
    assert_eq!(found[0].origin.as_ref().unwrap().document_id, "c");
    assert_eq!(hits(&server, "dipper").await.len(), 1);
    assert_eq!(
        ingest(&server, document("c", text, Duplicates::Link)).await.outcome(),
        DocumentOutcome::Unchanged
    );
}

async fn add(server: &TestServer, path: &Path) -> v1::Source {
    let request = v1::AddSourceRequest {
        collection: "c".into(),
        path: path.to_str().unwrap().into(),
        duplicates: v1::Duplicates::Link.into(),
        ..Default::default()
    };
    server.ingest().add_source(request).await.unwrap().into_inner().source.unwrap()
}

async fn source(server: &TestServer) -> v1::Source {
    let request = v1::ListSourcesRequest { collection: "c".into() };
    server.ingest().list_sources(request).await.unwrap().into_inner().sources.remove(0)
}

#[tokio::test]
async fn copies_in_a_folder_are_stored_once_and_outlive_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let text = "Licence: anyone may copy the cormorant notes.";
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let paths = ["a.txt", "b.txt", "sub/c.txt"].map(|name| folder.path().join(name));
    for path in &paths {
        std::fs::write(path, text).unwrap();
    }
    std::fs::write(folder.path().join("other.txt"), "The gannet folds its wings.").unwrap();
    let mut server = TestServer::start().await;
    server.create("c").await;
    let added = add(&server, folder.path()).await;
    assert_eq!(added.duplicates(), v1::Duplicates::Link);
    eventually("all are read", async || {
        let source = source(&server).await;
        (source.files_indexed, source.files_linked, source.state()) == (4, 2, v1::SourceState::Watching)
    })
    .await;
    assert_eq!(server.count("c").await, 2);
    let request = v1::ListSourceFilesRequest { source_id: added.id.clone(), ..Default::default() };
    let files = server.ingest().list_source_files(request).await.unwrap().into_inner().files;
    assert_eq!(files.iter().filter(|file| !file.linked_to.is_empty() && file.chunks == 1).count(), 2);

    // Whichever was stored: it goes, and one of the others stands for the rest.
    let mut left = 3;
    for (round, remove) in [(0, true), (1, false)] {
        let found = hits(&server, "cormorant").await;
        assert_eq!((found.len(), found[0].also_at_total), (1, left - 1), "round {round}");
        let id = found[0].origin.as_ref().unwrap().document_id.clone();
        let path =
            paths.iter().find(|path| id.ends_with(path.file_name().unwrap().to_str().unwrap())).unwrap();
        if remove {
            std::fs::remove_file(path).unwrap();
        } else {
            std::fs::write(path, "It was overwritten.").unwrap();
        }
        left -= 1;
        eventually("another has taken over", async || {
            let found = hits(&server, "cormorant").await;
            assert_eq!(found.len(), 1, "round {round}");
            found[0].origin.as_ref().unwrap().document_id != id
        })
        .await;
        if round == 0 {
            server.restart().await;
        }
    }
    eventually("it is at rest", async || {
        let source = source(&server).await;
        (source.files_indexed, source.files_linked, source.state()) == (3, 0, v1::SourceState::Watching)
    })
    .await;
    assert_eq!(server.count("c").await, 3);
}

/// A text of many words, one in `every` of them replaced.
fn version_of(topic: &str, every: usize, by: &str) -> String {
    let word = |i: usize| {
        if i % every == every - 1 { format!("{by}{i}") } else { format!("{topic}{}", i * 7 % 101) }
    };
    let words: Vec<String> = (0..300).map(word).collect();
    format!("The puffin nests in burrows. {}", words.join(" "))
}

#[tokio::test]
async fn near_duplicates_are_marked_and_collapsed() {
    let mut server = TestServer::start().await;
    server.create("c").await;
    let near = |id: &str, text: &str| v1::IngestDocumentRequest {
        near_duplicates: Some(true),
        ..document(id, text, v1::Duplicates::Unspecified)
    };
    let texts = [
        ("a", version_of("sea", 1_000, "x")),
        ("b", version_of("sea", 100, "y")),
        ("c", version_of("sea", 3, "z")),
        ("d", version_of("cliff", 1_000, "x")),
    ];
    for (id, text) in &texts {
        ingest(&server, near(id, text)).await;
    }
    // Not asked to be compared: not marked, and not collapsed.
    ingest(&server, document("e", &version_of("sea", 90, "w"), v1::Duplicates::Unspecified)).await;
    server.restart().await;
    // What it is compared with came back with the server.
    ingest(&server, near("f", &version_of("sea", 80, "v"))).await;

    let search = async |server: &TestServer, collapse: bool| {
        let request = v1::SearchRequest {
            collection: "c".into(),
            mode: v1::SearchMode::Keyword.into(),
            text: Some("puffin".into()),
            collapse_near_duplicates: collapse,
            ..Default::default()
        };
        server.search(request).await.hits
    };
    let documents = |hits: &[v1::Hit]| {
        let mut ids: Vec<String> =
            hits.iter().map(|hit| hit.origin.as_ref().unwrap().document_id.clone()).collect();
        ids.sort_unstable();
        ids
    };
    let all = search(&server, false).await;
    assert_eq!(documents(&all), ["a", "b", "c", "d", "e", "f"]);
    let mark = |id: &str, field: &str| {
        let hit = all.iter().find(|hit| hit.origin.as_ref().unwrap().document_id == id).unwrap();
        hit.payload.as_ref().unwrap().fields.get(field).cloned()
    };
    assert_eq!(mark("b", "near_duplicate_of"), Some(word("a")));
    assert_eq!(mark("f", "near_duplicate_group"), Some(word("a")));
    assert!(mark("b", "near_duplicate_similarity").is_some());
    for id in ["a", "c", "d", "e"] {
        assert_eq!(mark(id, "near_duplicate_of"), None, "{id}");
    }
    let collapsed = search(&server, true).await;
    let kept = documents(&collapsed);
    assert_eq!(kept.len(), 4, "{kept:?}");
    let best = collapsed.iter().find(|hit| !hit.near_duplicates.is_empty()).unwrap();
    let mut group = names(&best.near_duplicates);
    group.push(&best.origin.as_ref().unwrap().document_id);
    group.sort_unstable();
    assert_eq!(group, ["a", "b", "f"]);

    // A document that is no more is nobody's original, and one that is made again is compared again.
    let delete =
        v1::DeleteDocumentsRequest { collection: "c".into(), document_ids: vec!["a".into(), "b".into()] };
    server.ingest().delete_documents(delete).await.unwrap();
    ingest(&server, near("f", &version_of("cliff", 100, "u"))).await;
    ingest(&server, near("g", &version_of("sea", 1_000, "t"))).await;
    let all = search(&server, false).await;
    let of = |id: &str| {
        let hit = all.iter().find(|hit| hit.origin.as_ref().unwrap().document_id == id).unwrap();
        hit.payload.as_ref().unwrap().fields.get("near_duplicate_of").cloned()
    };
    assert_eq!((of("f"), of("g")), (Some(word("d")), None));
    // How much they need to have in common is a setting of whoever sends them, too.
    let strict = |id: &str, threshold| v1::IngestDocumentRequest {
        near_duplicate_threshold: Some(threshold),
        ..near(id, &version_of("sea", 120, id))
    };
    ingest(&server, strict("strict", 1.0)).await;
    ingest(&server, strict("lax", 0.5)).await;
    let all = search(&server, false).await;
    let of = |id: &str| {
        let hit = all.iter().find(|hit| hit.origin.as_ref().unwrap().document_id == id).unwrap();
        hit.payload.as_ref().unwrap().fields.get("near_duplicate_of").cloned()
    };
    assert!(of("strict").is_none() && of("lax").is_some());
    let wrong = server.ingest().ingest_document(strict("wrong", 0.3)).await;
    crate::harness::refused(wrong, tonic::Code::InvalidArgument, "near_duplicate_threshold");
    let too_many = v1::SearchRequest {
        collection: "c".into(),
        text: Some("puffin".into()),
        limit: Some(5_000),
        collapse_near_duplicates: true,
        ..Default::default()
    };
    crate::harness::refused(server.searches().search(too_many).await, tonic::Code::InvalidArgument, "limit");
}

/// Runs the binary beside the server.
async fn command(arguments: &[&str]) {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || std::process::Command::new(env!("CARGO_BIN_EXE_ragstone")).args(arguments).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn links_outlive_files_and_flights() {
    let mut server = TestServer::start().await;
    for name in ["c", "parquet", "arrow", "flight"] {
        server.create(name).await;
    }
    let text = "# Heron\n\nThe grey heron waits in shallow water.\n\n# Tern\n\nIt dives.";
    for id in ["a", "b", "c"] {
        ingest(&server, document(id, text, v1::Duplicates::Link)).await;
    }
    ingest(&server, document("other", "# Gull\n\nIt steals.", v1::Duplicates::Link)).await;
    for format in ["parquet", "arrow"] {
        let file = server.dir.path().join(format!("out.{format}"));
        let (file, address) = (file.to_str().unwrap(), server.address());
        command(&["export", "-c", "c", "--to", file, "--server", &address]).await;
        command(&["import", file, "-c", format, "--strict", "--server", &address]).await;
    }
    let ticket = serde_json::json!({"version": 1, "collection": "c"});
    let rows = crate::flight::get(&server, ticket).await.unwrap();
    let into = arrow_flight::FlightDescriptor::new_path(vec!["flight".into()]);
    let acks = crate::flight::put_messages(&server, crate::flight::messages(into, &[rows])).await.unwrap();
    assert_eq!(acks.last().unwrap()["rejected_total"], 0, "{acks:?}");

    server.restart().await;
    for collection in ["parquet", "arrow", "flight"] {
        let request = v1::GetDocumentRequest { collection: collection.into(), document_id: "a".into() };
        let found = server.ingest().get_document(request).await.unwrap().into_inner().document.unwrap();
        assert_eq!(names(&found.also_at), ["b", "c"], "{collection}");
        // The holder goes, and the next one takes over.
        let delete =
            v1::DeleteDocumentsRequest { collection: collection.into(), document_ids: vec!["a".into()] };
        server.ingest().delete_documents(delete).await.unwrap();
        let request = v1::SearchRequest {
            collection: collection.into(),
            mode: v1::SearchMode::Keyword.into(),
            text: Some("heron".into()),
            ..Default::default()
        };
        let hit = server.search(request).await.hits.remove(0);
        assert_eq!(hit.origin.unwrap().document_id, "b", "{collection}");
        assert_eq!(names(&hit.also_at), ["c"], "{collection}");
    }

    // Hits over Flight name the other places, too.
    let search = serde_json::json!({"text": "heron", "mode": "keyword"});
    let ticket =
        serde_json::json!({"version": 1, "collection": "c", "search": search, "columns": ["id", "also_at"]});
    let hits = crate::flight::get(&server, ticket).await.unwrap();
    let also_at =
        arrow::array::AsArray::as_string::<i32>(hits.column_by_name("also_at").unwrap()).value(0).to_owned();
    let also_at: serde_json::Value = serde_json::from_str(&also_at).unwrap();
    assert_eq!((&also_at["total"], &also_at["also_at"][1]["document_id"]), (&2.into(), &"c".into()));
}
