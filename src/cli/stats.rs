//! `ragstone stats`: what is stored and how.

use ragstone_proto::v1::{
    CalibratedBeam, CollectionStats, GetStatsRequest, GetStatsResponse, SampledRecall, VectorIndexStats,
};
use serde_json::{Value as Json, json};

use super::connection::{Connection, Target};
use super::failure::Outcome;
use super::output::{bytes, count, print_json, print_line, table};
use super::wire_json;

/// Show what is stored and how: points, documents, segments, bytes, recall
///
/// With --collection, also every segment and the indexes of its vectors. Recall is that of a sample of live searches, against
/// comparing every vector, since the server started.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this collection
    #[arg(long, short, value_name = "NAME")]
    collection: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Outcome {
    let connection = Connection::open(&args.target).await?;
    let request = GetStatsRequest { collection: args.collection.clone().unwrap_or_default() };
    let reply = connection.admin().get_stats(request).await;
    connection.close().await?;
    let stats = reply?.into_inner();
    if args.json {
        print_json(&to_json(&stats))?
    } else {
        print_line(&render(&stats, args.collection.is_some()))?
    }
    Ok(())
}

fn to_json(stats: &GetStatsResponse) -> Json {
    let collections: Json = stats.collections.iter().map(wire_json::collection_stats).collect();
    let embedding = stats.embedding.as_ref().map(wire_json::embedding_stats);
    json!({
        "collections": collections, "rss_bytes": stats.rss_bytes, "uptime_s": stats.uptime_s,
        "embedding": embedding,
    })
}

fn render(stats: &GetStatsResponse, segments: bool) -> String {
    let header = [
        "collection",
        "points",
        "documents",
        "failed",
        "segments",
        "in memory",
        "deleted",
        "log",
        "disk",
        "seq no",
    ];
    let row = |stats: &CollectionStats| {
        vec![
            stats.name.clone(),
            stats.points.to_string(),
            stats.documents.to_string(),
            stats.documents_failed.to_string(),
            stats.segments.len().to_string(),
            stats.memtable_points.to_string(),
            percent(stats.tombstone_share),
            bytes(stats.log_bytes),
            bytes(stats.disk_bytes),
            stats.seq_no.to_string(),
        ]
    };
    let rows: Vec<_> = stats.collections.iter().map(row).collect();
    let mut text = if rows.is_empty() { "no collections".to_owned() } else { table(&header, &rows, true) };
    if segments {
        stats.collections.iter().for_each(|stats| text.push_str(&segment_tables(stats)));
    }
    text.push_str(&recall_table(stats));
    text.push_str(&format!("\n\nserver: up {} s", stats.uptime_s));
    if stats.rss_bytes > 0 {
        text.push_str(&format!(", {} of memory", bytes(stats.rss_bytes)));
    }
    text.push_str(&embedding_line(stats));
    text
}

/// What was embedded, once anything was.
fn embedding_line(stats: &GetStatsResponse) -> String {
    let Some(embedding) = &stats.embedding else { return String::new() };
    let Some(cache) = &embedding.cache else {
        return format!("\nembedding: {}", count(embedding.embedded, "text"));
    };
    format!(
        "\nembedding: {}, {} of {} found in the cache, which holds {} in {} of at most {}",
        count(embedding.embedded, "text"),
        cache.hits,
        cache.hits + cache.misses,
        count(cache.vectors, "vector"),
        bytes(cache.bytes),
        bytes(cache.limit_bytes),
    )
}

/// What segments hold, and how their vectors are indexed.
fn segment_tables(stats: &CollectionStats) -> String {
    if stats.segments.is_empty() {
        return String::new();
    }
    let rows = stats.segments.iter().map(|segment| {
        let deleted = segment.deleted_rows as f64 / segment.rows.max(1) as f64;
        vec![segment.id.to_string(), segment.rows.to_string(), percent(deleted), bytes(segment.bytes)]
    });
    let mut text =
        format!("\n\n{}", table(&["segment", "rows", "deleted", "disk"], &rows.collect::<Vec<_>>(), true));
    let indexes = stats
        .segments
        .iter()
        .flat_map(|segment| segment.vector_indexes.iter().map(|index| index_row(segment.id, index)));
    let indexes: Vec<_> = indexes.collect();
    if !indexes.is_empty() {
        let header = [
            "segment",
            "vector space",
            "vectors",
            "originals",
            "codes",
            "graph",
            "links",
            "grown",
            "walked on",
            "code recall",
            "beams",
        ];
        text.push_str(&format!("\n\n{}", table(&header, &indexes, true)));
    }
    text.push_str(&format!(
        "\n\nsegments take {:.2} times the room of their live rows",
        stats.space_amplification
    ));
    text
}

fn index_row(segment: u64, index: &VectorIndexStats) -> Vec<String> {
    let mut row = vec![
        segment.to_string(),
        index.vector_space.clone(),
        index.vectors.to_string(),
        bytes(index.vector_bytes),
    ];
    let Some(graph) = &index.graph else {
        row.extend(["-", "-", "-", "-", "every vector", "-", "-"].map(str::to_owned));
        return row;
    };
    let walked_on = if graph.quantization == "none" { "originals" } else { &graph.quantization };
    let beam = |beam: &CalibratedBeam| format!("{}: {}", share(beam.recall.into()), beam.ef);
    let beams: Vec<_> = graph.calibration.iter().map(beam).collect();
    row.extend([
        bytes(graph.code_bytes),
        bytes(graph.graph_bytes),
        graph.m.to_string(),
        percent(graph.inherited as f64 / index.vectors.max(1) as f64),
        walked_on.to_owned(),
        graph.code_recall.map_or("-".to_owned(), |recall| share(recall.into())),
        if beams.is_empty() { "-".to_owned() } else { beams.join(", ") },
    ]);
    row
}

/// Recall of sampled searches, where there were any.
fn recall_table(stats: &GetStatsResponse) -> String {
    let of = |stats: &CollectionStats, recall: &SampledRecall| {
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), share);
        vec![
            stats.name.clone(),
            recall.vector_space.clone(),
            shown(recall.recall),
            shown(recall.recent_recall),
            share(recall.recall_target.into()),
            recall.samples.to_string(),
            recall.dropped.to_string(),
        ]
    };
    let sampled = |recall: &&SampledRecall| recall.samples + recall.dropped > 0;
    let rows: Vec<_> = stats
        .collections
        .iter()
        .flat_map(|stats| stats.recall.iter().filter(sampled).map(move |recall| of(stats, recall)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["collection", "vector space", "recall", "recent", "target", "samples", "left out"];
    format!("\n\n{}", table(&header, &rows, true))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn share(share: f64) -> String {
    let text = format!("{share:.4}");
    let short = text.trim_end_matches('0');
    short.strip_suffix('.').unwrap_or(short).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ragstone_proto::v1::{EmbeddingStats, GraphStats, SegmentStats, VectorCacheStats};

    #[test]
    fn segments_and_recall_are_tables() {
        let graph = GraphStats {
            m: 16,
            quantization: "int8".into(),
            code_bytes: 384_000,
            graph_bytes: 140_000,
            code_recall: Some(0.9985),
            inherited: 820,
            generation: 1,
            calibration: vec![
                CalibratedBeam { recall: 0.95, ef: 24 },
                CalibratedBeam { recall: 0.99, ef: 60 },
            ],
            ..GraphStats::default()
        };
        let index = |graph| VectorIndexStats {
            vector_space: "text".into(),
            vectors: 1_000,
            vector_bytes: 1_536_000,
            graph,
        };
        let segment = |id, graph| SegmentStats {
            id,
            rows: 1_000,
            deleted_rows: 125,
            bytes: 3 << 20,
            vector_indexes: vec![index(graph)],
            ..SegmentStats::default()
        };
        let recall = SampledRecall {
            vector_space: "text".into(),
            recall_target: 0.99,
            samples: 40,
            dropped: 2,
            recall: Some(0.9925),
            recent_recall: Some(1.0),
        };
        let collection = CollectionStats {
            name: "notes".into(),
            points: 1_750,
            segments: vec![segment(1, Some(graph)), segment(2, None)],
            tombstone_share: 0.125,
            space_amplification: 1.142,
            disk_bytes: 6 << 20,
            recall: vec![recall, SampledRecall { vector_space: "image".into(), ..SampledRecall::default() }],
            ..CollectionStats::default()
        };
        let cache = VectorCacheStats { hits: 30, misses: 10, vectors: 1, bytes: 1_576, ..Default::default() };
        let embedding = EmbeddingStats { embedded: 10, shared: 2, cache: Some(cache) };
        let stats = GetStatsResponse {
            collections: vec![collection],
            rss_bytes: 0,
            uptime_s: 7,
            embedding: Some(embedding),
        };
        let text = render(&stats, true);
        let has_line = |words: &str| {
            let squeezed = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            assert!(squeezed.into_iter().any(|line| line == words), "{words:?} in\n{text}");
        };
        has_line("1 1000 12.5% 3.0 MiB");
        has_line("1 text 1000 1.5 MiB 375.0 KiB 136.7 KiB 16 82.0% int8 0.9985 0.95: 24, 0.99: 60");
        has_line("2 text 1000 1.5 MiB - - - - every vector - -");
        has_line("segments take 1.14 times the room of their live rows");
        has_line("notes text 0.9925 1 0.99 40 2");
        has_line(
            "embedding: 10 texts, 30 of 40 found in the cache, which holds 1 vector in 1.5 KiB of at most 0 B",
        );
        assert!(!text.contains("image"), "nothing was sampled there");
        assert!(!render(&stats, false).contains("walked on"));
    }
}
