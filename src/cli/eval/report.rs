//! What `eval` prints. The JSON form is a contract: see `docs/cli.md`.

use serde_json::{Map, Value as Json, json};

use super::load::Loaded;
use super::queries::Measured;
use crate::cli::output::table;

/// All that was measured.
pub(super) struct Report {
    pub(super) documents: u64,
    pub(super) queries: u64,
    pub(super) loaded: Loaded,
    /// By mode, in the order asked for.
    pub(super) modes: Vec<(&'static str, Measured)>,
}

impl Report {
    pub(super) fn to_json(&self) -> Json {
        let modes: Map<String, Json> =
            self.modes.iter().map(|(mode, measured)| ((*mode).to_owned(), mode_json(measured))).collect();
        json!({
            "docs": self.documents,
            "queries": self.queries,
            "ingest": {
                "docs_per_s": rounded(self.per_second(self.loaded.indexed), 2),
                "chunks": self.loaded.chunks,
                "chunks_per_s": rounded(self.per_second(self.loaded.chunks), 2),
                "seconds": rounded(self.loaded.elapsed.as_secs_f64(), 3),
                "failed": self.loaded.failed,
            },
            "modes": modes,
        })
    }

    pub(super) fn to_table(&self) -> String {
        let header = ["mode", "nDCG@10", "recall@100", "p50 ms", "p95 ms", "p99 ms"];
        let row = |(mode, measured): &(&'static str, Measured)| {
            vec![
                (*mode).to_owned(),
                format!("{:.4}", measured.ndcg_at_10),
                format!("{:.4}", measured.recall_at_100),
                format!("{:.1}", measured.p50_ms),
                format!("{:.1}", measured.p95_ms),
                format!("{:.1}", measured.p99_ms),
            ]
        };
        let rows: Vec<_> = self.modes.iter().map(row).collect();
        format!(
            "{} documents, {} queries\ningest: {} chunks in {:.1} s, {:.1} documents/s, {:.1} chunks/s\n\n{}",
            self.documents,
            self.queries,
            self.loaded.chunks,
            self.loaded.elapsed.as_secs_f64(),
            self.per_second(self.loaded.indexed),
            self.per_second(self.loaded.chunks),
            table(&header, &rows, true)
        )
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.loaded.elapsed.as_secs_f64().max(1e-9)
    }
}

fn mode_json(measured: &Measured) -> Json {
    json!({
        "ndcg_at_10": rounded(measured.ndcg_at_10, 4),
        "recall_at_100": rounded(measured.recall_at_100, 4),
        "p50_ms": rounded(measured.p50_ms, 3),
        "p95_ms": rounded(measured.p95_ms, 3),
        "p99_ms": rounded(measured.p99_ms, 3),
    })
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn report() -> Report {
        let measured = Measured {
            ndcg_at_10: 0.73214,
            recall_at_100: 0.95,
            p50_ms: 3.2,
            p95_ms: 5.0,
            p99_ms: 7.123_456,
        };
        let loaded =
            Loaded { indexed: 10, failed: 1, chunks: 20, seq_no: 3, elapsed: Duration::from_secs(2) };
        Report { documents: 11, queries: 5, loaded, modes: vec![("keyword", measured), ("hybrid", measured)] }
    }

    #[test]
    fn json_has_the_keys_of_the_contract() {
        let json = report().to_json();
        assert_eq!((&json["docs"], &json["queries"]), (&json!(11), &json!(5)));
        assert_eq!(json["ingest"]["docs_per_s"], json!(5.0));
        assert_eq!((&json["ingest"]["chunks"], &json["ingest"]["chunks_per_s"]), (&json!(20), &json!(10.0)));
        let expected = json!({
            "ndcg_at_10": 0.7321, "recall_at_100": 0.95, "p50_ms": 3.2, "p95_ms": 5.0, "p99_ms": 7.123
        });
        assert_eq!(json["modes"]["hybrid"], expected);
    }

    #[test]
    fn the_table_has_a_line_a_mode() {
        let table = report().to_table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "11 documents, 5 queries");
        assert_eq!(lines[3], "mode     nDCG@10  recall@100  p50 ms  p95 ms  p99 ms");
        assert_eq!(lines[4], "keyword   0.7321      0.9500     3.2     5.0     7.1");
        assert_eq!(lines.len(), 6);
    }
}
