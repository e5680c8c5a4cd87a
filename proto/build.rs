//! Compiles the `.proto` files without `protoc`, and writes the descriptor set that server reflection serves.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 6] = [
    "ragstone/v1/common.proto",
    "ragstone/v1/collections.proto",
    "ragstone/v1/points.proto",
    "ragstone/v1/search.proto",
    "ragstone/v1/ingest.proto",
    "ragstone/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=ragstone");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("ragstone.v1.bin"), descriptors.encode_to_vec())?;
    // Payload bytes and batches are shared, not copied, on their way through the server.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
