//! SIGKILL while a server imports: the next run goes on behind the last durable row.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::server::Server;
use crate::view::View;
use crate::{number, rows};

const FILES: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_again_and_again_ends_with_each_row_once() {
    let kills = number("RAGSTONE_IMPORT_KILLS", 6);
    let total = number("RAGSTONE_IMPORT_ROWS", 60_000) / FILES * FILES;
    let seed = number("RAGSTONE_IMPORT_SEED", rand::rng().random());
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for file in 0..FILES {
        let share = total / FILES;
        let bytes = rows::parquet(file * share..(file + 1) * share, 10);
        std::fs::write(folder.path().join(format!("part-{file}.parquet")), bytes).unwrap();
    }
    let paths = [folder.path().join("*.parquet").to_str().unwrap().to_owned()];
    // What a client was told to be durable.
    let mut told = 0;
    for kill in 0..kills {
        let mut server = Server::start(data.path()).await;
        let view = View::new(&server);
        if kill == 0 {
            view.create().await;
        }
        let at_start = view.count().await;
        assert!(at_start >= told, "kill {kill}: {at_start} rows of {told} are left");
        let until = at_start + rng.random_range(0..total / (kills + 1));
        let mut stream = view.begin(&paths).await.unwrap();
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
    let server = Server::start(data.path()).await;
    let view = View::new(&server);
    let at_start = view.count().await;
    assert!(at_start >= told, "{at_start} rows of {told} are left");
    let last = view.import(&paths).await.unwrap();
    println!("the last run: {at_start} rows at the start, {} written", last.rows_written);
    assert_eq!((last.rows_resumed, last.rows_written), (at_start, total - at_start), "{last:?}");
    assert_eq!((last.rows_rejected, view.replaced().await), (0, 0), "{last:?}");
    rows::check(&view.points().await, 0..total);
    let again = view.import(&paths).await.unwrap();
    assert_eq!((again.rows_resumed, again.rows_written), (total, 0), "a finished import has nothing to do");
}
