//! The service as its clients see it: real servers on free ports, real clients, one module per topic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod collections;
mod documents;
mod duplicates;
mod exports;
mod flight;
mod flight_python;
mod harness;
mod hostile;
mod imports;
mod ingest_stream;
mod points;
mod search;
mod service;
mod sources;
