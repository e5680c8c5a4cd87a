//! Kills a real server with SIGKILL at random moments of a mixed load, starts it again, and checks that every
//! acknowledged write is there, by id, by vector and by word, whole and once.
//!
//! `RAGSTONE_CRASH_ROUNDS` (25) and `RAGSTONE_CRASH_SEED` make it a longer or another run; the seed is printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod check;
mod load;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::check::check;
use crate::load::{Load, Totals};
use crate::server::Server;

const COLLECTION: &str = "crash";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_sigkill() {
    let rounds = number("RAGSTONE_CRASH_ROUNDS", 25);
    let seed = number("RAGSTONE_CRASH_SEED", rand::rng().random());
    println!("seed {seed}, {rounds} rounds");
    let mut rng = StdRng::seed_from_u64(seed);
    let data = tempfile::tempdir().unwrap();
    let load = Arc::new(Load::new());
    let mut totals = Totals::default();
    let mut recovery = Vec::new();
    for round in 0..rounds {
        let started = Instant::now();
        let mut server = Server::start(data.path()).await;
        recovery.push(started.elapsed());
        if round == 0 {
            server.create_collection(COLLECTION).await;
        } else {
            check(&server, &load, &mut rng, round).await;
        }
        let writers = load.start(&server, rng.random());
        tokio::time::sleep(Duration::from_millis(rng.random_range(30..1_200))).await;
        server.kill();
        for writer in writers {
            totals += writer.await.unwrap();
        }
    }
    let server = Server::start(data.path()).await;
    check(&server, &load, &mut rng, rounds).await;
    recovery.sort();
    println!(
        "{totals:?}; start-up median {:?}, longest {:?}",
        recovery[recovery.len() / 2],
        recovery.last().unwrap()
    );
    assert!(
        totals.points > 0 && totals.documents > 0 && totals.deletes > 0,
        "the load did nothing: {totals:?}"
    );
    assert!(totals.seals > 0 && totals.compactions > 0, "nothing was sealed or compacted: {totals:?}");
}
