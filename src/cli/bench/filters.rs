//! Filters to measure with: on columns that the user has, and made ones that pass a given share of the rows.
//!
//! A made filter is uncorrelated (by a hash of the row) or correlated: the rows nearest to one of them pass, so all
//! matches lie in one corner of the space. It knows no engine.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::truth::{Metric, Queries};
use super::vector_file::VectorFile;

/// Most different values of a column among which the typical one is looked for.
const MAX_DISTINCT: usize = 1 << 20;
/// Most columns of a file of attributes.
const MAX_COLUMNS: usize = 64;

/// A set of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowSet(Vec<u64>);

impl RowSet {
    pub(super) fn empty(rows: usize) -> Self {
        Self(vec![0; rows.div_ceil(64)])
    }

    pub(super) fn insert(&mut self, row: usize) {
        if let Some(word) = self.0.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    #[inline]
    pub(super) fn contains(&self, row: usize) -> bool {
        self.0.get(row / 64).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// A filter `field = value` and the rows that it passes.
#[derive(Debug, Clone)]
pub(super) struct RowFilter {
    /// As a report shows it: `attr0=7 (1.0 %)`.
    pub(super) name: String,
    /// Integer payload field.
    pub(super) field: String,
    pub(super) value: i64,
    pub(super) passing: RowSet,
}

/// Columns of whole numbers, one value a row each; column `i` is the payload field `attri`.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    values: Vec<i64>,
    columns: usize,
}

impl Attributes {
    pub(super) fn read(file: &VectorFile, rows: usize) -> Result<Self> {
        let path = file.path().display();
        ensure!(file.rows() == rows, "{path}: has {} rows, the base has {rows}", file.rows());
        ensure!(
            file.width() <= MAX_COLUMNS,
            "{path}: has {} columns; at most {MAX_COLUMNS} are read",
            file.width()
        );
        Ok(Self { values: file.read_all()?, columns: file.width() })
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = String> {
        (0..self.columns).map(|column| format!("attr{column}"))
    }

    /// Values of a row, by column.
    pub(super) fn row(&self, row: usize) -> &[i64] {
        self.values.get(row * self.columns..(row + 1) * self.columns).unwrap_or_default()
    }

    fn column(&self, column: usize) -> impl Iterator<Item = i64> {
        self.values.iter().skip(column).step_by(self.columns.max(1)).copied()
    }

    /// A filter on the most typical value of each column: that which passes most nearly the mean number of rows.
    pub(super) fn typical(&self) -> Result<Vec<RowFilter>> {
        (0..self.columns).map(|column| self.equal(column, self.typical_value(column)?)).collect()
    }

    fn typical_value(&self, column: usize) -> Result<i64> {
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        for value in self.column(column) {
            *counts.entry(value).or_default() += 1;
            ensure!(
                counts.len() <= MAX_DISTINCT,
                "attr{column} has more than {MAX_DISTINCT} different values"
            );
        }
        let mean = self.column(column).count() / counts.len().max(1);
        let typical = counts.into_iter().min_by_key(|(_, count)| count.abs_diff(mean));
        Ok(typical.map_or(0, |(value, _)| value))
    }

    /// A filter as the user writes it: `attr0=7`.
    pub(super) fn parse(&self, text: &str) -> Result<RowFilter> {
        let parts = text.split_once('=').and_then(|(field, value)| {
            Some((field.trim().strip_prefix("attr")?.parse().ok()?, value.trim().parse().ok()?))
        });
        match parts {
            Some((column, value)) if column < self.columns => self.equal(column, value),
            Some((column, _)) => {
                bail!("--filter {text}: there is no attr{column}; --filter-attr has {} columns", self.columns)
            }
            None => bail!("--filter {text}: expected attrN=VALUE, as in attr0=7"),
        }
    }

    fn equal(&self, column: usize, value: i64) -> Result<RowFilter> {
        let mut passing = RowSet::empty(self.values.len() / self.columns.max(1));
        for (row, _) in self.column(column).enumerate().filter(|(_, found)| *found == value) {
            passing.insert(row);
        }
        ensure!(passing.len() > 0, "attr{column}={value} passes no row");
        let share = passing.len() as f64 * 100.0 / (self.values.len() / self.columns) as f64;
        let name = format!("attr{column}={value} ({share:.1} %)");
        Ok(RowFilter { name, field: format!("attr{column}"), value, passing })
    }
}

/// Filters that pass these shares of the rows, whatever lies where.
pub(super) fn uncorrelated(rows: usize, shares: &[f64]) -> Vec<RowFilter> {
    let make = |&share: &f64| {
        let mut passing = RowSet::empty(rows);
        let bound = (share * u64::MAX as f64) as u64;
        (0..rows).filter(|&row| scattered(row as u64) <= bound).for_each(|row| passing.insert(row));
        if passing.len() == 0 {
            passing.insert(rows / 2);
        }
        made("uncorrelated", share, passing)
    };
    shares.iter().map(make).collect()
}

/// Filters that pass these shares of the rows: those that are nearest to one row.
pub(super) fn correlated(base: &VectorFile, metric: Metric, shares: &[f64]) -> Result<Vec<RowFilter>> {
    let rows = base.rows();
    let pivot_row = (scattered(0) % rows as u64) as usize;
    let mut pivot = None;
    base.each_slice::<f32>(|first, slice| {
        if let Some(at) = pivot_row.checked_sub(first).filter(|at| at * base.width() < slice.len()) {
            pivot = slice.get(at * base.width()..(at + 1) * base.width()).map(<[f32]>::to_vec);
        }
        Ok(())
    })?;
    let pivot = Queries::new(pivot.unwrap_or_default(), base.width(), metric)?;
    let mut scores = Vec::with_capacity(rows);
    base.each_slice::<f32>(|first, slice| {
        metric.prepare(slice, base.width(), first)?;
        scores.extend(slice.chunks_exact(base.width()).map(|row| metric.score(pivot.get(0), row)));
        Ok(())
    })?;
    let mut order: Vec<u32> = (0..rows as u32).collect();
    let score = |row: &u32| scores.get(*row as usize).copied().unwrap_or(f64::MIN);
    order.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
    let make = |&share: &f64| {
        let mut passing = RowSet::empty(rows);
        let count = ((rows as f64 * share).round() as usize).max(1);
        order.iter().take(count).for_each(|&row| passing.insert(row as usize));
        made("correlated", share, passing)
    };
    Ok(shares.iter().map(make).collect())
}

fn made(kind: &str, share: f64, passing: RowSet) -> RowFilter {
    let percent = format!("{:.4}", share * 100.0);
    let percent = percent.trim_end_matches('0').trim_end_matches('.');
    let field = format!("{kind}_{}", percent.replace('.', "_"));
    RowFilter { name: format!("{kind} {percent} %"), field, value: 1, passing }
}

/// A number that says nothing of the row (the finaliser of SplitMix64, Steele et al., 2014).
fn scattered(row: u64) -> u64 {
    let mut x = row.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::cli::bench::npy;

    fn attributes() -> Attributes {
        // Column 0: 1 once, 2 three times, 5 twice; column 1: the row.
        Attributes { values: vec![2, 0, 5, 1, 2, 2, 1, 3, 2, 4, 5, 5], columns: 2 }
    }

    #[test]
    fn typical_values_pass_the_mean_number_of_rows() {
        let filters = attributes().typical().unwrap();
        assert_eq!((filters[0].name.as_str(), filters[0].field.as_str()), ("attr0=5 (33.3 %)", "attr0"));
        assert_eq!((0..6).filter(|&row| filters[0].passing.contains(row)).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(filters[1].passing.len(), 1);
    }

    #[test]
    fn filters_of_the_user() {
        let attributes = attributes();
        assert_eq!(attributes.parse("attr0 = 2").unwrap().passing.len(), 3);
        for (text, part) in [
            ("attr2=1", "2 columns"),
            ("attr0=9", "no row"),
            ("x=1", "attrN=VALUE"),
            ("attr0", "attrN=VALUE"),
        ] {
            let error = attributes.parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn uncorrelated_filters_pass_their_share() {
        let filters = uncorrelated(100_000, &[0.001, 0.5]);
        assert_eq!(
            (filters[0].name.as_str(), filters[0].field.as_str()),
            ("uncorrelated 0.1 %", "uncorrelated_0_1")
        );
        assert!((70..130).contains(&filters[0].passing.len()), "{}", filters[0].passing.len());
        assert!((49_000..51_000).contains(&filters[1].passing.len()), "{}", filters[1].passing.len());
        assert_eq!(uncorrelated(3, &[0.0001])[0].passing.len(), 1);
    }

    #[test]
    fn correlated_filters_pass_what_lies_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.npy");
        let mut content = Vec::new();
        npy::write_header(&mut content, 100, 1).unwrap();
        (0..100).for_each(|row| content.extend((row as f32).to_le_bytes()));
        std::fs::write(&path, content).unwrap();
        let base = VectorFile::open::<f32>(&path, None).unwrap();
        let filters = correlated(&base, Metric::Euclidean, &[0.1, 0.3]).unwrap();
        for (filter, count) in filters.iter().zip([10, 30]) {
            let rows: Vec<usize> = (0..100).filter(|&row| filter.passing.contains(row)).collect();
            assert_eq!(rows.len(), count);
            assert_eq!(rows[count - 1] - rows[0], count - 1, "not one stretch: {rows:?}");
        }
    }
}
