//! The last step of every embedder: a finite vector of unit length, or an error.

use crate::error::{Error, ErrorKind, Result};

/// Scales a vector to unit length. One that has no direction or is not finite is an error: it would poison an index.
pub(super) fn unit(mut vector: Vec<f32>) -> Result<Vec<f32>> {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if !length.is_finite() || length < f64::from(f32::MIN_POSITIVE) {
        return Err(Error::new(ErrorKind::Internal, format!("the model made a vector of length {length}")));
    }
    let scale = (1.0 / length) as f32;
    for x in &mut vector {
        *x *= scale;
    }
    Ok(vector)
}
