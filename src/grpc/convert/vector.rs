//! Vectors: packed little-endian bytes or a list of numbers.

use bytes::Bytes;
use ragstone_index::schema::MAX_DIMENSION;
use ragstone_proto::v1;

/// Components of a vector, or what is wrong with it. Every component is finite.
pub fn components(vector: &v1::Vector) -> Result<Vec<f32>, String> {
    let values: Vec<f32> = match (vector.f32.is_empty(), vector.values.is_empty()) {
        (true, true) => return Err("is empty: give `f32` or `values`".into()),
        (false, false) => return Err("gives both `f32` and `values`: give one of them".into()),
        (false, true) => {
            let (words, rest) = vector.f32.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(format!("`f32` has {} bytes, which is not a multiple of 4", vector.f32.len()));
            }
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        }
        (true, false) => vector.values.clone(),
    };
    if values.len() > MAX_DIMENSION as usize {
        return Err(format!("has {} components; at most {MAX_DIMENSION} are possible", values.len()));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(i) => {
            Err(format!("component {i} is {}, which is not a finite number", values.get(i).unwrap_or(&0.0)))
        }
        None => Ok(values),
    }
}

/// A vector in its packed form.
pub fn packed(values: &[f32]) -> v1::Vector {
    let f32: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    v1::Vector { f32: Bytes::from(f32), values: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn listed(values: &[f32]) -> v1::Vector {
        v1::Vector { f32: Bytes::new(), values: values.to_vec() }
    }

    #[test]
    fn both_forms_say_the_same() {
        let values = [0.5, -1.0, f32::MIN_POSITIVE];
        assert_eq!(components(&packed(&values)).unwrap(), values);
        assert_eq!(components(&listed(&values)).unwrap(), values);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |vector: v1::Vector, expect: &str| {
            let message = components(&vector).unwrap_err();
            assert!(message.contains(expect), "{message}");
        };
        check(v1::Vector::default(), "is empty");
        check(v1::Vector { f32: Bytes::from_static(b"\0\0\0\0"), values: vec![1.0] }, "both");
        check(v1::Vector { f32: Bytes::from_static(b"\0\0\0"), values: Vec::new() }, "multiple of 4");
        check(listed(&[0.0, f32::NAN]), "component 1 is NaN");
        check(packed(&[f32::INFINITY]), "component 0 is inf");
        check(listed(&vec![0.0; 65_536]), "at most 65535");
    }
}
