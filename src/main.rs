//! The `ragstone` binary.

fn main() {}
