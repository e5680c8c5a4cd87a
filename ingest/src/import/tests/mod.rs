//! Imports of real files into a sink over a map.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod broken;
mod resume;
mod support;
mod values;
