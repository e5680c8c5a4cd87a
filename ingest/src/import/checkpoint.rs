//! Where an import stands, as it is committed together with the rows. Its JSON form is a disk format.

use serde::{Deserialize, Serialize};

/// A place in the files of a job: everything before it is dealt with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Index of the file in the job.
    pub file: usize,
    /// Parquet: the row group.
    pub row_group: u32,
    /// Parquet: rows of the row group before it. JSON Lines: lines of the file before it.
    pub row: u64,
    /// JSON Lines: bytes of the file before it.
    pub byte: u64,
}

impl Position {
    /// The first row of a file.
    pub fn start_of(file: usize) -> Self {
        Self { file, ..Self::default() }
    }
}

/// What an import remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version")]
pub(super) enum Checkpoint {
    #[serde(rename = "1")]
    V1(State),
}

/// How far an import got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Hash of files (paths, sizes, times), format and mapping: a job with other inputs starts anew.
    pub inputs: String,
    pub position: Position,
    /// Files before `position` that could not be read to their end, and how far they were. They are tried again.
    pub unfinished: Vec<Position>,
    /// Rows dealt with.
    pub rows_done: u64,
}

impl State {
    pub fn new(inputs: &str) -> Self {
        Self { inputs: inputs.to_owned(), ..Self::default() }
    }

    /// Reads a checkpoint; `None` when it belongs to other inputs or can't be read.
    pub fn read(bytes: &[u8], inputs: &str) -> Option<Self> {
        let Checkpoint::V1(state) = serde_json::from_slice(bytes).ok()?;
        (state.inputs == inputs).then_some(state)
    }

    /// The checkpoint to commit.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of numbers and strings has a JSON form.
        serde_json::to_vec(&Checkpoint::V1(self.clone())).unwrap_or_default()
    }

    /// Where to begin with a file; `None` when it is finished.
    pub fn start(&self, file: usize) -> Option<Position> {
        if let Some(position) = self.unfinished.iter().find(|position| position.file == file) {
            return Some(*position);
        }
        match file.cmp(&self.position.file) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(self.position),
            std::cmp::Ordering::Greater => Some(Position::start_of(file)),
        }
    }

    /// Rows up to `position` are dealt with.
    pub fn advance(&mut self, position: Position) {
        if position.file < self.position.file {
            self.unfinished.retain(|other| other.file != position.file);
            self.unfinished.push(position);
        } else {
            self.position = position;
        }
    }

    /// A file is read to its end.
    pub fn finish(&mut self, file: usize) {
        self.unfinished.retain(|position| position.file != file);
        if file >= self.position.file {
            self.position = Position::start_of(file + 1);
        }
    }

    /// A file can't be read beyond what was dealt with.
    pub fn fail(&mut self, file: usize) {
        let reached = self.start(file).unwrap_or(Position::start_of(file));
        self.finish(file);
        self.unfinished.push(reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: usize, row: u64) -> Position {
        Position { file, row, ..Position::default() }
    }

    #[test]
    fn files_that_failed_are_tried_again_from_where_they_got() {
        let mut state = State::new("inputs");
        state.advance(at(0, 5));
        assert_eq!((state.start(0), state.start(1)), (Some(at(0, 5)), Some(at(1, 0))));
        state.fail(0);
        state.advance(at(1, 7));
        assert_eq!((state.start(0), state.start(1)), (Some(at(0, 5)), Some(at(1, 7))));
        state.finish(1);
        let mut state = State::read(&state.to_bytes(), "inputs").unwrap_or_default();
        assert_eq!((state.start(0), state.start(1), state.start(2)), (Some(at(0, 5)), None, Some(at(2, 0))));
        state.advance(at(0, 9));
        assert_eq!((state.start(0), state.start(1)), (Some(at(0, 9)), None));
        state.finish(0);
        assert_eq!((state.start(0), state.start(2)), (None, Some(at(2, 0))));
    }

    #[test]
    fn a_checkpoint_of_other_inputs_or_of_nonsense_does_not_count() {
        let bytes = State::new("inputs").to_bytes();
        assert!(State::read(&bytes, "inputs").is_some());
        assert!(State::read(&bytes, "others").is_none());
        for bytes in [&b""[..], b"{}", b"{\"version\":\"9\"}", b"\xff"] {
            assert!(State::read(bytes, "inputs").is_none());
        }
    }
}
