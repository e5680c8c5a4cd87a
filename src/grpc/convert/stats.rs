//! Counts and sizes of collections.

use ragstone_index::collection::{CollectionStats, SegmentStats, SpaceRecall};
use ragstone_index::vector::{GraphReport, VectorIndexReport};
use ragstone_ingest::embed::EmbedStats;
use ragstone_proto::v1;

/// Counts and sizes of a collection.
pub fn collection(name: String, stats: CollectionStats) -> v1::CollectionStats {
    v1::CollectionStats {
        name,
        points: stats.points,
        documents: stats.documents,
        documents_failed: stats.documents_failed,
        seq_no: stats.seq_no,
        memtable_points: stats.memtable_points,
        memtable_bytes: stats.memtable_bytes,
        log_bytes: stats.log_bytes,
        disk_bytes: stats.disk_bytes,
        deleted_rows: stats.deleted_rows,
        tombstone_share: stats.tombstone_share(),
        space_amplification: stats.space_amplification,
        recall: stats.recall.into_iter().map(recall).collect(),
        segments: stats.segments.into_iter().map(segment).collect(),
    }
}

/// What was embedded, and what did not have to be.
pub fn embedding(stats: EmbedStats) -> v1::EmbeddingStats {
    let cache = stats.cache.map(|cache| v1::VectorCacheStats {
        hits: cache.hits,
        misses: cache.misses,
        damaged: cache.damaged,
        vectors: cache.vectors,
        bytes: cache.bytes,
        limit_bytes: cache.limit_bytes,
    });
    v1::EmbeddingStats { embedded: stats.embedded, shared: stats.shared, cache }
}

fn recall(recall: SpaceRecall) -> v1::SampledRecall {
    let SpaceRecall { vector_space, target, sampled } = recall;
    v1::SampledRecall {
        vector_space,
        recall_target: target.get(),
        samples: sampled.samples,
        dropped: sampled.dropped,
        recall: sampled.recall(),
        recent_recall: sampled.recent,
    }
}

fn segment(segment: SegmentStats) -> v1::SegmentStats {
    let kind = |report: &VectorIndexReport| if report.graph.is_some() { "graph" } else { "exact" };
    let indexes = &segment.vector_indexes;
    v1::SegmentStats {
        id: segment.id,
        rows: segment.rows,
        deleted_rows: segment.deleted_rows,
        bytes: segment.bytes,
        vector_index: indexes.iter().map(|(space, report)| (space.clone(), kind(report).into())).collect(),
        vector_indexes: segment.vector_indexes.into_iter().map(index).collect(),
    }
}

fn index((vector_space, report): (String, VectorIndexReport)) -> v1::VectorIndexStats {
    let VectorIndexReport { vectors, vector_bytes, graph } = report;
    v1::VectorIndexStats { vector_space, vectors, vector_bytes, graph: graph.map(self::graph) }
}

fn graph(report: GraphReport) -> v1::GraphStats {
    let beam = |beam: ragstone_index::vector::CalibratedBeam| v1::CalibratedBeam {
        recall: beam.recall,
        ef: beam.ef,
    };
    v1::GraphStats {
        m: report.m,
        ef_construct: report.ef_construct,
        quantization: report.quantization.name().into(),
        code_bytes: report.code_bytes,
        graph_bytes: report.graph_bytes,
        code_recall: report.code_recall,
        calibration: report.calibration.into_iter().map(beam).collect(),
        inherited: report.inherited,
        generation: report.generation,
    }
}
