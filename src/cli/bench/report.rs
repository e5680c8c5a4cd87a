//! What `bench vectors` prints. The JSON form is a contract: see `docs/cli.md`.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::engine::Filled;
use super::inserts::Inserted;
use super::measure::{Calls, Measured};
use super::process::Memory;
use crate::cli::output::{bytes, table};

/// All that was measured.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) points: usize,
    pub(super) dimension: usize,
    pub(super) queries: usize,
    pub(super) k: usize,
    pub(super) calls: Calls,
    pub(super) segments: usize,
    /// Absent when an index was used again.
    pub(super) filled: Option<Filled>,
    /// From opening the data directory to the first answer.
    pub(super) opened: Duration,
    /// Of the process that has the engine, after the searches in process.
    pub(super) memory: Memory,
    pub(super) disk_bytes: u64,
    pub(super) served: Option<Served>,
    pub(super) rows: Vec<Row>,
}

/// What was measured of the server.
#[derive(Debug)]
pub(super) struct Served {
    /// From the start of the process to the first answer.
    pub(super) opened: Duration,
    /// After the searches.
    pub(super) memory: Memory,
    pub(super) inserted: Option<Inserted>,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) measured: Measured,
    pub(super) filter: Option<String>,
    pub(super) recall: f64,
}

impl Report {
    pub(super) fn to_json(&self) -> Json {
        let filled = self.filled.as_ref();
        let mut json = json!({
            "points": self.points,
            "dimension": self.dimension,
            "queries": self.queries,
            "queries_per_call": self.calls.queries,
            "exact": self.calls.exact,
            "segments": self.segments,
            "build_s": filled.map(|filled| rounded(filled.indexed.as_secs_f64(), 3)),
            "insert_points_per_s": filled.map(|filled| rounded(rate(self.points, filled.inserted), 1)),
            "build_peak_rss_bytes": filled.map(|filled| filled.peak),
            "open_s": rounded(self.opened.as_secs_f64(), 4),
            "peak_rss_bytes": self.memory.peak,
            "rss_bytes": self.memory.resident,
            "rss_anon_bytes": self.memory.anonymous,
            "rss_file_bytes": self.memory.mapped,
            "disk_bytes": self.disk_bytes,
            "rows": self.rows.iter().map(|row| self.row_json(row)).collect::<Vec<_>>(),
        });
        if let (Some(served), Some(object)) = (&self.served, json.as_object_mut()) {
            object.insert("grpc".to_owned(), served_json(served));
        }
        json
    }

    fn row_json(&self, row: &Row) -> Json {
        let Row { measured, filter, recall } = row;
        let mut object = Map::new();
        object.insert("target".to_owned(), measured.target.into());
        object.insert("clients".to_owned(), measured.cell.clients.into());
        object.insert("ef".to_owned(), json!(measured.cell.ef));
        object.insert("filter".to_owned(), json!(filter));
        object.insert(format!("recall_at_{}", self.k), rounded(*recall, 5).into());
        object.insert("qps".to_owned(), rounded(measured.qps, 1).into());
        object.insert("p50_ms".to_owned(), rounded(measured.p50_ms, 4).into());
        object.insert("p95_ms".to_owned(), rounded(measured.p95_ms, 4).into());
        object.insert("p99_ms".to_owned(), rounded(measured.p99_ms, 4).into());
        if let Some(cpu) = measured.server_cpu_us_per_query {
            object.insert("server_cpu_us_per_query".to_owned(), rounded(cpu, 1).into());
        }
        object.into()
    }

    pub(super) fn to_table(&self) -> String {
        let calls = match self.calls.queries {
            1 => String::new(),
            queries => format!(" in calls of {queries}"),
        };
        let mut lines =
            vec![format!("{} points x {}, {} queries{calls}", self.points, self.dimension, self.queries)];
        if let Some(filled) = &self.filled {
            lines.push(format!(
                "build: {:.1} s, {:.0} points/s durable, {} segments, peak {}",
                filled.indexed.as_secs_f64(),
                rate(self.points, filled.inserted),
                self.segments,
                bytes(filled.peak)
            ));
        }
        lines.push(format!(
            "memory: peak {}, now {} of which {} anonymous; disk: {}; opened in {:.2} s",
            bytes(self.memory.peak),
            bytes(self.memory.resident),
            bytes(self.memory.anonymous),
            bytes(self.disk_bytes),
            self.opened.as_secs_f64()
        ));
        lines.extend(self.served.as_ref().map(served_line));
        lines.push(String::new());
        lines.push(self.rows_table());
        lines.join("\n")
    }

    fn rows_table(&self) -> String {
        let recall = format!("recall@{}", self.k);
        let header =
            ["target", "filter", "clients", "ef", &recall, "QPS", "p50 ms", "p95 ms", "p99 ms", "server us"];
        let chosen = if self.calls.exact { "exact" } else { "auto" };
        let row = |Row { measured, filter, recall }: &Row| {
            vec![
                measured.target.to_owned(),
                filter.clone().unwrap_or_else(|| "-".to_owned()),
                measured.cell.clients.to_string(),
                measured.cell.ef.map_or_else(|| chosen.to_owned(), |ef| ef.to_string()),
                format!("{recall:.4}"),
                format!("{:.0}", measured.qps),
                format!("{:.3}", measured.p50_ms),
                format!("{:.3}", measured.p95_ms),
                format!("{:.3}", measured.p99_ms),
                measured.server_cpu_us_per_query.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.0}")),
            ]
        };
        table(&header, &self.rows.iter().map(row).collect::<Vec<_>>(), true)
    }
}

fn served_json(served: &Served) -> Json {
    let inserted = served.inserted.as_ref();
    json!({
        "open_s": rounded(served.opened.as_secs_f64(), 4),
        "rss_bytes": served.memory.resident,
        "rss_anon_bytes": served.memory.anonymous,
        "rss_file_bytes": served.memory.mapped,
        "inserted_points": inserted.map(|inserted| inserted.points),
        "insert_points_per_s": inserted.map(|inserted| rounded(rate(inserted.points, inserted.inserted), 1)),
        "insert_one_p50_ms": inserted.map(|inserted| rounded(inserted.one_p50_ms, 4)),
        "indexed_s": inserted.map(|inserted| rounded(inserted.indexed.as_secs_f64(), 3)),
        "insert_rss_bytes": inserted.map(|inserted| inserted.memory.resident),
        "insert_peak_rss_bytes": inserted.map(|inserted| inserted.memory.peak),
    })
}

fn served_line(served: &Served) -> String {
    let mut line = format!(
        "server: first answer after {:.2} s, {} of which {} anonymous",
        served.opened.as_secs_f64(),
        bytes(served.memory.resident),
        bytes(served.memory.anonymous)
    );
    if let Some(inserted) = &served.inserted {
        line.push_str(&format!(
            "; inserts: {:.0} points/s, one by one p50 {:.2} ms, {} points indexed after {:.1} s, peak {}",
            rate(inserted.points, inserted.inserted),
            inserted.one_p50_ms,
            inserted.points,
            inserted.indexed.as_secs_f64(),
            bytes(inserted.memory.peak)
        ));
    }
    line
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::super::measure::Cell;
    use super::*;

    fn report() -> Report {
        let row = |target, ef, filter: Option<&str>, cpu| Row {
            measured: Measured {
                target,
                cell: Cell { clients: 2, ef, filter: 0 },
                qps: 1234.56,
                p50_ms: 0.5,
                p95_ms: 0.75,
                p99_ms: 1.0,
                server_cpu_us_per_query: cpu,
                hits: Vec::new(),
            },
            filter: filter.map(str::to_owned),
            recall: 0.987_654_3,
        };
        Report {
            points: 1_000,
            dimension: 8,
            queries: 10,
            k: 10,
            calls: Calls { queries: 1, exact: false },
            segments: 1,
            filled: Some(Filled {
                inserted: Duration::from_secs(1),
                indexed: Duration::from_secs(2),
                peak: 3072,
            }),
            opened: Duration::from_millis(5),
            memory: Memory { resident: 2048, peak: 4096, anonymous: 1024, mapped: 768 },
            disk_bytes: 512,
            served: None,
            rows: vec![
                row("in_process", Some(64), None, None),
                row("grpc", None, Some("a=1 (1.0 %)"), Some(42.0)),
            ],
        }
    }

    #[test]
    fn json_has_the_keys_of_the_contract() {
        let json = report().to_json();
        assert_eq!((&json["build_s"], &json["insert_points_per_s"]), (&json!(2.0), &json!(1000.0)));
        assert_eq!((&json["peak_rss_bytes"], &json["rss_bytes"]), (&json!(4096), &json!(2048)));
        assert_eq!((&json["rss_anon_bytes"], &json["disk_bytes"]), (&json!(1024), &json!(512)));
        assert_eq!((&json["build_peak_rss_bytes"], &json["rss_file_bytes"]), (&json!(3072), &json!(768)));
        let first = json!({
            "target": "in_process", "clients": 2, "ef": 64, "filter": null, "recall_at_10": 0.98765, "qps": 1234.6,
            "p50_ms": 0.5, "p95_ms": 0.75, "p99_ms": 1.0,
        });
        assert_eq!(json["rows"][0], first);
        assert_eq!(
            (&json["rows"][1]["ef"], &json["rows"][1]["filter"]),
            (&Json::Null, &json!("a=1 (1.0 %)"))
        );
        assert_eq!(json["rows"][1]["server_cpu_us_per_query"], json!(42.0));
        assert_eq!(Report { filled: None, ..report() }.to_json()["build_s"], Json::Null);
    }

    #[test]
    fn the_table_has_a_line_a_row() {
        let table = report().to_table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], "build: 2.0 s, 1000 points/s durable, 1 segments, peak 3.0 KiB");
        assert!(lines[4].starts_with("target") && lines[4].contains("recall@10"), "{table}");
        assert!(lines[6].contains("a=1 (1.0 %)") && lines[6].contains("auto"), "{table}");
    }
}
