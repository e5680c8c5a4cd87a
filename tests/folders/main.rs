//! Watched folders under real conditions: a server that is killed again and again while it reads one, and readers who look
//! on while documents are replaced.
//!
//! `RAGSTONE_FOLDER` names a folder that is read (from a copy) in place of the made-up one, `RAGSTONE_FOLDER_KILLS` (10)
//! and `RAGSTONE_FOLDER_SEED` make it another run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../crash/server.rs"]
mod server;
mod texts;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::server::Server;
use crate::view::View;

const COLLECTION: &str = "folder";
/// Servers that embed beside each other only take longer.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_again_and_again_ends_with_the_folder_and_embeds_nothing_twice() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let kills = number("RAGSTONE_FOLDER_KILLS", 10);
    let seed = number("RAGSTONE_FOLDER_SEED", rand::rng().random());
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let given = std::env::var_os("RAGSTONE_FOLDER");
    match &given {
        Some(given) => texts::copy(Path::new(given), folder.path()),
        None => texts::make(folder.path(), 200, &mut rng),
    }
    // Without the cache, so that an embedding is an embedding.
    let start = async || Server::start_with(data.path(), &[("RAGSTONE_EMBEDDING__CACHE_BYTES", "0")]).await;
    let mut durable = 0;
    for kill in 0..kills {
        let mut server = start().await;
        let view = View::new(&server, COLLECTION);
        if kill == 0 {
            server.create_collection(COLLECTION).await;
            view.watch(folder.path()).await;
        }
        let at_start = view.points().await;
        assert!(at_start >= durable, "kill {kill}: {at_start} points of {durable} are left");
        let more = if given.is_some() { rng.random_range(0..5_000) } else { rng.random_range(0..40) };
        view.reaches(at_start + more, Duration::from_secs(30)).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
        let embedded = view.embedded().await;
        durable = view.points().await;
        server.kill();
        println!("kill {kill}: {at_start} points at the start, {durable} at the end, {embedded} embedded");
    }
    let server = start().await;
    let view = View::new(&server, COLLECTION);
    let at_start = view.points().await;
    assert!(at_start >= durable, "{at_start} points of {durable} are left");
    let source = view.settled(Duration::from_secs(number("RAGSTONE_FOLDER_SECONDS", 240))).await;
    let points = view.points().await;
    let embedded = view.embedded().await;
    println!("the last run: {at_start} points at the start, {points} at the end, {embedded} embedded");
    println!(
        "files: {} indexed, {} failed, {} skipped",
        source.files_indexed, source.files_failed, source.files_skipped
    );
    view.agrees_with(folder.path(), given.is_none()).await;
    if given.is_none() {
        assert_eq!(
            embedded,
            points - at_start,
            "what was durable was embedded again, or what was not was not"
        );
    } else {
        assert!(embedded <= points - at_start, "what was durable was embedded again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_embeds_what_it_touches_and_readers_see_whole_documents() {
    const FILES: usize = 100;
    let _turn = ONE_AT_A_TIME.lock().await;
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |file: usize, edit: texts::Edit| {
        std::fs::write(folder.path().join(texts::name(file)), texts::long(file, edit)).unwrap();
    };
    (0..FILES).for_each(|file| write(file, texts::Edit::default()));
    let server = Server::start(data.path()).await;
    server.create_collection(COLLECTION).await;
    let view = Arc::new(View::new(&server, COLLECTION));
    view.watch(folder.path()).await;
    view.settled(Duration::from_secs(240)).await;
    let (points, embedded) = (view.points().await, view.embedded().await);
    assert_eq!(points, (FILES * texts::SECTIONS) as u64);
    assert_eq!(embedded, points);

    let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers = (0..2_u64).map(|reader| {
        let (view, stop, looks) = (Arc::clone(&view), Arc::clone(&stop), Arc::clone(&looks));
        let folder = folder.path().to_owned();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(reader);
            while !stop.load(Ordering::Relaxed) {
                let file = rng.random_range(0..FILES);
                let chunks = view.document(&folder.join(texts::name(file)), texts::SECTIONS).await;
                assert_eq!(chunks.len(), texts::SECTIONS, "a part of file {file} is missing");
                texts::check_whole(&chunks);
                looks.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let readers: Vec<_> = readers.collect();

    // One paragraph in each file: one chunk of each is embedded.
    (0..FILES).for_each(|file| write(file, texts::Edit { paragraph: 1, generation: 0 }));
    view.until("the edits are there", || async { view.all_contain(folder.path(), FILES, "edited1").await })
        .await;
    view.settled(Duration::from_secs(240)).await;
    assert_eq!(view.embedded().await - embedded, FILES as u64, "one chunk of each file was touched");

    // First and last section together, several times in a row: no reader sees one without the other.
    let began = Instant::now();
    for generation in 1..=3 {
        (0..FILES).for_each(|file| write(file, texts::Edit { paragraph: 1, generation }));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    view.until("the last generation", || async {
        view.all_contain(folder.path(), FILES, "generation3").await
    })
    .await;
    view.settled(Duration::from_secs(240)).await;
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    println!("{} looks; three generations in {:?}", looks.load(Ordering::Relaxed), began.elapsed());
    assert!(looks.load(Ordering::Relaxed) > 20, "nobody looked");
    assert_eq!(view.points().await, points);
}
