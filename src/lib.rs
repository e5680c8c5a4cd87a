//! ragstone: a vector store and ingestion service in one binary.
//!
//! The server glues the pipeline (`ragstone-ingest`) to the engine (`ragstone-index`) and offers both over gRPC.
//! [`app`] is the one application layer; [`grpc`] and the command line are thin over it.

#![warn(missing_docs)]

pub mod app;
pub mod cli;
pub mod config;
mod filter_language;
pub mod grpc;
mod network;
pub mod server;
pub mod telemetry;
