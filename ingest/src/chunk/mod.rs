//! Extracted text to chunks that fit an embedder.
