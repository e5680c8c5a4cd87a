//! Pages of a PDF that are mostly a table, row by row. Readers of columns take such a page column by column, which tears
//! its rows apart. It only knows words and where they stand.

/// Fewest cells of a row, and fewest rows of a page, that make it a table.
const MIN_CELLS: usize = 3;
const MIN_ROWS: usize = 4;
/// Most words of a cell, on average: columns of prose have more.
const MAX_CELL_WORDS: f32 = 3.5;
/// A gap of so many heights of a word parts two cells.
const CELL_GAP: f32 = 1.2;
/// Words whose middles differ by less of their height stand in one row.
const SAME_ROW: f32 = 0.5;

/// A word and its box. `y` grows upwards.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub text: String,
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl Placed {
    fn middle(&self) -> f32 {
        self.y + self.height / 2.0
    }

    fn is_sound(&self) -> bool {
        [self.x, self.y, self.width, self.height].iter().all(|value| value.is_finite())
            && self.height > 0.0
            && !self.text.trim().is_empty()
    }
}

/// The page as rows, where most of its rows have cells; `None`: it is no table.
pub(super) fn table(words: Vec<Placed>) -> Option<String> {
    if lies_on_its_side(&words) {
        return None;
    }
    let rows = rows(words);
    let cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row)).collect();
    let tabular = || cells.iter().filter(|row| row.len() >= MIN_CELLS);
    let count = tabular().count();
    if count < MIN_ROWS || count * 2 < cells.len() {
        return None;
    }
    let words: usize = tabular().flatten().map(|cell| cell.split(' ').count()).sum();
    let parts: usize = tabular().map(Vec::len).sum();
    #[expect(clippy::cast_precision_loss, reason = "counts of a page are small")]
    let average = words as f32 / parts.max(1) as f32;
    if average > MAX_CELL_WORDS {
        return None;
    }
    Some(cells.iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n"))
}

/// Whether the words run upwards or downwards: their rows are not those of the page.
fn lies_on_its_side(words: &[Placed]) -> bool {
    let long = || words.iter().filter(|word| word.text.chars().count() > 3);
    long().filter(|word| word.height > word.width).count() * 5 > long().count()
}

/// Words that stand beside each other, from the top of the page down, each row from the left.
fn rows(words: Vec<Placed>) -> Vec<Vec<Placed>> {
    let mut words: Vec<Placed> = words.into_iter().filter(Placed::is_sound).collect();
    words.sort_by(|a, b| b.middle().total_cmp(&a.middle()));
    let mut rows: Vec<Vec<Placed>> = Vec::new();
    for word in words {
        let open = rows.last_mut().filter(|row| {
            let last = row.last();
            last.is_some_and(|last| last.middle() - word.middle() < SAME_ROW * last.height.min(word.height))
        });
        match open {
            Some(row) => row.push(word),
            None => rows.push(vec![word]),
        }
    }
    for row in &mut rows {
        row.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    rows
}

/// The words of a row, joined where they stand close.
fn cells(row: &[Placed]) -> Vec<String> {
    let mut cells: Vec<String> = Vec::new();
    let mut end = f32::NEG_INFINITY;
    for word in row {
        let is_apart = word.x - end > CELL_GAP * word.height;
        match cells.last_mut().filter(|_| !is_apart) {
            Some(cell) => {
                cell.push(' ');
                cell.push_str(word.text.trim());
            }
            None => cells.push(word.text.trim().to_owned()),
        }
        end = end.max(word.x + word.width);
    }
    cells
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    /// Words of lines of text, one character 5 wide and 10 high; two blanks and more part cells.
    fn page(lines: &[&str]) -> Vec<Placed> {
        let mut words = Vec::new();
        for (row, line) in lines.iter().enumerate() {
            let mut at = 0;
            for word in line.split(' ') {
                if !word.is_empty() {
                    words.push(Placed {
                        text: word.into(),
                        x: at as f32 * 5.0,
                        y: 700.0 - row as f32 * 14.0 + (at % 2) as f32,
                        width: word.len() as f32 * 5.0,
                        height: 10.0,
                    });
                }
                at += word.len() + 1;
            }
        }
        words.reverse();
        words
    }

    #[test]
    fn rows_of_a_table_stay_rows() {
        let lines = [
            "Method of Cichelli",
            "word      g value     slot",
            "euterpe   e 0         7 ok",
            "calliope  c 0         8 ok",
            "erato     o 0         5 ok",
            "clio      none        4 ok",
        ];
        let found = table(page(&lines)).unwrap();
        assert!(
            found.starts_with("Method of Cichelli\nword | g value | slot\neuterpe | e 0 | 7 ok\n"),
            "{found}"
        );
        assert!(found.ends_with("clio | none | 4 ok"), "{found}");
    }

    #[test]
    fn prose_is_no_table() {
        let prose = ["Stones are hard and heavy things.", "Some of them are soft, though.", "Talc is one."];
        assert_eq!(table(page(&prose)), None);
        let column = "long lines of a narrow column      and the next one beside it here      third column with words too";
        assert_eq!(table(page(&[column; 10])), None);
        assert_eq!(table(page(&["a      b      c"; 3])), None);
        assert_eq!(table(Vec::new()), None);
    }

    #[test]
    fn boxes_that_lie_are_left_out() {
        let mut words = page(&["a      b      c"; 5]);
        for (index, value) in [f32::NAN, f32::INFINITY, -1.0, 0.0].into_iter().enumerate() {
            words.push(Placed {
                text: "x".into(),
                x: value,
                y: value,
                width: value,
                height: value * index as f32,
            });
        }
        assert!(table(words).unwrap().contains("a | b | c"));
    }
}
