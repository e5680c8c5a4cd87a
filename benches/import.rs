//! Question: how fast do rows of a Parquet file become durable, and searchable by graph, and does memory depend on the
//! size of the file? Corpus: clustered unit vectors of 384 f32 with an integer payload, generated here; no embedding.
//!
//! `cargo bench --bench import [-- ROWS...]` (default 50000 and 200000)

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use ragstone_proto::v1 as api;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[path = "support/mod.rs"]
mod support;

use support::Server;

const DIMENSION: usize = 384;
const ROW_GROUP: usize = 10_000;

#[tokio::main]
async fn main() -> Result<()> {
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![50_000, 200_000] } else { given };
    println!(
        "| rows | file MiB | durable rows/s | indexed rows/s | peak own MiB | peak RSS MiB with mapped files |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for rows in sizes {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("vectors.parquet");
        write_file(&file, rows)?;
        let mib = file.metadata()?.len() >> 20;
        let server = Server::start(&folder.path().join("data"), &[]).await?;
        let own = server.watch_own_memory();
        let started = Instant::now();
        import(&server, &file).await?;
        let durable = started.elapsed();
        let mut admin = api::admin_service_client::AdminServiceClient::new(server.channel.clone());
        admin.flush(api::FlushRequest { collection: "bench".into() }).await?;
        let indexed = started.elapsed();
        println!(
            "| {rows} | {mib} | {:.0} | {:.0} | {} | {} |",
            rows as f64 / durable.as_secs_f64(),
            rows as f64 / indexed.as_secs_f64(),
            own.most_mib(),
            server.memory_mib("VmHWM")
        );
    }
    Ok(())
}

async fn import(server: &Server, file: &Path) -> Result<()> {
    let mut collections =
        api::collection_service_client::CollectionServiceClient::new(server.channel.clone());
    let space = api::VectorSpace { name: "v".into(), dimension: DIMENSION as u32, ..Default::default() };
    let schema = Some(api::CollectionSchema { vectors: vec![space], ..Default::default() });
    let request = api::CreateCollectionRequest { name: "bench".into(), schema, if_not_exists: false };
    collections.create_collection(request).await?;
    let mut client = api::ingest_service_client::IngestServiceClient::new(server.channel.clone());
    let columns =
        api::ColumnMapping { vectors: [("v".to_owned(), "vector".to_owned())].into(), ..Default::default() };
    let request = api::ImportRequest {
        collection: "bench".into(),
        paths: vec![file.display().to_string()],
        columns: Some(columns),
        ..Default::default()
    };
    let mut progress = client.import(request).await?.into_inner();
    while let Some(message) = progress.message().await? {
        anyhow::ensure!(message.rows_rejected == 0, "rows were rejected: {:?}", message.errors);
    }
    Ok(())
}

fn write_file(path: &Path, rows: usize) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(11);
    let centers: Vec<Vec<f32>> =
        (0..256).map(|_| (0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROW_GROUP)).build();
    let mut writer: Option<ArrowWriter<File>> = None;
    for start in (0..rows).step_by(ROW_GROUP) {
        let count = ROW_GROUP.min(rows - start);
        let mut values = Vec::with_capacity(count * DIMENSION);
        for _ in 0..count {
            let center = &centers[rng.random_range(0..centers.len())];
            values.extend(center.iter().map(|x| x + rng.random_range(-0.6f32..0.6)));
        }
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let vectors =
            FixedSizeListArray::new(item, DIMENSION as i32, Arc::new(Float32Array::from(values)), None);
        let ids = StringArray::from_iter_values((start..start + count).map(|row| format!("row-{row}")));
        let years = Int64Array::from_iter_values((0..count).map(|row| 1990 + (row % 40) as i64));
        let columns: [(&str, ArrayRef); 3] =
            [("id", Arc::new(ids)), ("vector", Arc::new(vectors)), ("year", Arc::new(years))];
        let batch = RecordBatch::try_from_iter(columns)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            empty => empty.insert(ArrowWriter::try_new(
                File::create(path)?,
                batch.schema(),
                Some(properties.clone()),
            )?),
        };
        writer.write(&batch)?;
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(())
}
