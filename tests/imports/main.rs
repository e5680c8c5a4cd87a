//! Imports under real conditions: a server that is killed again and again while it imports, and files that lie in an object
//! store.
//!
//! `RAGSTONE_IMPORT_KILLS` (6), `RAGSTONE_IMPORT_ROWS` (60,000) and `RAGSTONE_IMPORT_SEED` make it another run; the seed is
//! printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod killed;
#[cfg(feature = "object-store")]
mod object_store;
mod rows;
#[cfg(feature = "object-store")]
mod s3;
#[expect(dead_code, reason = "the collection here has a schema of its own")]
#[path = "../crash/server.rs"]
mod server;
mod view;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
