//! The wire contract of ragstone: types and services generated from the `.proto` files beside this crate.
//!
//! No logic lives here, and nothing here knows the engine or the pipeline.

/// Package `ragstone.v1`.
#[allow(clippy::all, clippy::allow_attributes_without_reason, missing_docs, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("ragstone.v1");

    /// The encoded `FileDescriptorSet` of the package, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ragstone.v1.bin"));
}
