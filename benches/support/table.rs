//! Tables of vectors for benches: read from `.npy` files, or made here: clustered, of a lower intrinsic dimension, unit length.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Rows of four-byte numbers, as they lie in the file.
pub struct Table {
    bytes: Vec<u8>,
    start: usize,
    /// Numbers of a row.
    pub width: usize,
    /// Rows.
    pub rows: usize,
}

impl Table {
    /// Reads a two-dimensional array of little-endian `f4` or `i4` in C order.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let header = bytes.get(8..10).context("no header")?;
        let start = 10 + usize::from(u16::from_le_bytes([header[0], header[1]]));
        let header = String::from_utf8_lossy(bytes.get(10..start).context("no header")?).into_owned();
        if !(header.contains("'<f4'") || header.contains("'<i4'")) || header.contains("'fortran_order': True")
        {
            bail!("{}: expected f4 or i4 in C order, found {header}", path.display());
        }
        let shape = header.split_once('(').and_then(|(_, rest)| rest.split_once(')')).context("no shape")?.0;
        let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
        let [rows, width] = shape[..] else { bail!("{}: not two-dimensional", path.display()) };
        if bytes.len() != start + rows * width * 4 {
            bail!("{}: its length does not fit its shape", path.display());
        }
        Ok(Self { bytes, start, width, rows })
    }

    /// Makes `rows` vectors; two seeds give other vectors of the same space.
    pub fn generate(rows: usize, width: usize, seed: u64) -> Self {
        const LATENT: usize = 24;
        const CLUSTERS: usize = 2_000;
        let normal = |random: &mut StdRng| (0..6).map(|_| random.random::<f32>() - 0.5).sum::<f32>();
        let mut space = StdRng::seed_from_u64(1);
        let axes: Vec<f32> = (0..LATENT * width).map(|_| normal(&mut space)).collect();
        let centres: Vec<f32> = (0..CLUSTERS * LATENT).map(|_| normal(&mut space)).collect();
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = Vec::with_capacity(rows * width * 4);
        for _ in 0..rows {
            let cluster = random.random_range(0..CLUSTERS) * LATENT;
            let mut vector = vec![0.0_f32; width];
            for (axis, centre) in axes.chunks(width).zip(&centres[cluster..cluster + LATENT]) {
                let place = centre + 0.6 * normal(&mut random);
                vector.iter_mut().zip(axis).for_each(|(value, axis)| *value += place * axis);
            }
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            bytes.extend(vector.iter().flat_map(|value| (value / length).to_le_bytes()));
        }
        Self { bytes, start: 0, width, rows }
    }

    /// The bytes of a row.
    pub fn packed(&self, row: usize) -> &[u8] {
        let bytes = self.width * 4;
        &self.bytes[self.start + row * bytes..][..bytes]
    }

    /// A row as floats.
    pub fn floats(&self, row: usize) -> Vec<f32> {
        self.packed(row).as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    }

    /// A row as whole numbers.
    pub fn integers(&self, row: usize) -> Vec<i32> {
        self.packed(row).as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect()
    }
}
