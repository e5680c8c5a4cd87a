//! Sampled recall: how much of what they should have found live searches did find.
//!
//! A share of the searches with a vector leg is repeated by comparing every vector, in the background and on the same
//! snapshot (`RecallSampler`). What comes of it is counted by vector space (`RecallMeter`), and steers what searches aim at
//! (`Steering`), which `Apportioned` shares out among segments. Nothing here may slow a search down: a sample that finds no room is dropped, and counted. It must not know
//! requests or how searches work.

mod apportion;
mod meter;
mod sampler;
mod steering;

pub(crate) use self::apportion::Apportioned;
pub(crate) use self::meter::RecallMeter;
pub use self::meter::SampledRecall;
pub(crate) use self::sampler::{Pace, RecallSampler, Sample};
pub(crate) use self::steering::Steering;
