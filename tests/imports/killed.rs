//! SIGKILL while a server imports: the next run goes on behind the last durable row.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::server::Server;
use crate::view::View;
use crate::{number, rows};

const FILES: u64 = 3;

/// An import that is going to be killed.
struct Killed<'a> {
    /// How the server finds a store.
    environment: &'a [(&'a str, &'a str)],
    paths: &'a [String],
    kills: u64,
    rows: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_again_and_again_ends_with_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let rows = number("RAGSTONE_IMPORT_ROWS", 60_000) / FILES * FILES;
    write(folder.path(), rows);
    let paths = [folder.path().join("*.parquet").to_str().unwrap().to_owned()];
    let kills = number("RAGSTONE_IMPORT_KILLS", 6);
    kill_and_resume(Killed { environment: &[], paths: &paths, kills, rows }).await;
}

#[cfg(feature = "object-store")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_from_a_store_that_is_killed_ends_with_each_row_once() {
    let store = tempfile::tempdir().unwrap();
    let rows = number("RAGSTONE_IMPORT_ROWS", 60_000) / 4 / FILES * FILES;
    std::fs::create_dir(store.path().join("bucket")).unwrap();
    write(&store.path().join("bucket"), rows);
    let s3 = crate::s3::S3::start(store.path()).await;
    let mut endpoint = String::new();
    let environment = s3.environment(&mut endpoint, crate::s3::SECRET);
    let paths = ["s3://bucket/part-*.parquet".to_owned()];
    kill_and_resume(Killed { environment: &environment, paths: &paths, kills: 2, rows }).await;
}

fn write(folder: &Path, rows: u64) {
    let share = rows / FILES;
    for file in 0..FILES {
        let bytes = rows::parquet(file * share..(file + 1) * share, 10);
        std::fs::write(folder.join(format!("part-{file}.parquet")), bytes).unwrap();
    }
}

async fn kill_and_resume(Killed { environment, paths, kills, rows: total }: Killed<'_>) {
    let seed = number("RAGSTONE_IMPORT_SEED", rand::rng().random());
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let data = tempfile::tempdir().unwrap();
    // What a client was told to be durable.
    let mut told = 0;
    for kill in 0..kills {
        let mut server = Server::start_with(data.path(), environment).await;
        let view = View::new(&server);
        if kill == 0 {
            view.create().await;
        }
        let at_start = view.count().await;
        assert!(at_start >= told, "kill {kill}: {at_start} rows of {told} are left");
        let until = at_start + rng.random_range(0..total / (kills + 1));
        let mut stream = view.begin(paths).await.unwrap();
        loop {
            let progress = stream.message().await.unwrap().expect("a message before the end");
            // The import counts what earlier runs dealt with; the collection counts ids. Were a row imported twice, the
            // first would be more than the second.
            assert_eq!(progress.rows_resumed, at_start, "kill {kill}");
            assert!(!progress.done, "kill {kill}: there is nothing left to be killed; give it more rows");
            told = progress.rows_resumed + progress.rows_written;
            if told >= until {
                break;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(rng.random_range(0..30))).await;
        server.kill();
        println!("kill {kill}: {at_start} rows at the start, {told} told as durable");
    }
    let server = Server::start_with(data.path(), environment).await;
    let view = View::new(&server);
    let at_start = view.count().await;
    assert!(at_start >= told, "{at_start} rows of {told} are left");
    let last = view.import(paths).await.unwrap();
    println!("the last run: {at_start} rows at the start, {} written", last.rows_written);
    assert_eq!((last.rows_resumed, last.rows_written), (at_start, total - at_start), "{last:?}");
    assert_eq!((last.rows_rejected, view.replaced().await), (0, 0), "{last:?}");
    rows::check(&view.points().await, 0..total);
    let again = view.import(paths).await.unwrap();
    assert_eq!((again.rows_resumed, again.rows_written), (total, 0), "a finished import has nothing to do");
}
