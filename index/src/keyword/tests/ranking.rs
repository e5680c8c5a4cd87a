//! What comes first.

use super::{memtable, segment, stats_of};
use crate::keyword::KeywordQuery;

/// Rows found for a query, best first; the memtable and a segment must agree.
fn ranked(texts: &[&str], query: &str) -> Vec<u32> {
    let query = KeywordQuery::new(query);
    let memtable = memtable(texts);
    let stats = stats_of(&query, &[], &[&memtable]);
    let live = memtable.search(&query, &stats, 10, None, u32::MAX);
    let sealed = segment(texts).search(&query, &stats, 10, None).unwrap();
    assert_eq!(live, sealed);
    live.into_iter().map(|hit| hit.row).collect()
}

#[test]
fn stems_are_found_in_every_form() {
    let texts = ["dividing cells grow", "a car", "one cell divides"];
    assert_eq!(ranked(&texts, "cell division divided"), [2, 0]);
    assert_eq!(ranked(&texts, "banana"), [0; 0]);
}

#[test]
fn the_form_as_written_breaks_the_tie_of_stems() {
    assert_eq!(ranked(&["he runs here", "he run here", "he running here"], "running"), [2, 0, 1]);
}

#[test]
fn identifiers_come_before_their_scattered_parts() {
    let texts = [
        "the bar of the foo and foo and bar, bar",
        "call foo_bar to begin with the whole thing and then go on with something else",
        "foo, bar",
    ];
    assert_eq!(ranked(&texts, "foo_bar").first(), Some(&1));
    assert_eq!(ranked(&texts, "what does foo_bar do").first(), Some(&1));
}

#[test]
fn versions_numbers_and_signs_come_first_where_they_stand_whole() {
    let texts = [
        "step 1, step 2, step 3, v1, v1 again",
        "since v1.2.3 this is fixed, together with many other things that had been waiting for a long time",
        "v1.2.4 was a mistake",
        "languages: C, C and C",
        "languages: C++ and others",
        "languages: C# and others",
        "about 3, 14 and 3",
        "pi is about 3.14, as everyone knows who went to school",
    ];
    assert_eq!(ranked(&texts, "v1.2.3").first(), Some(&1));
    assert_eq!(ranked(&texts, "C++").first(), Some(&4));
    assert_eq!(ranked(&texts, "c#").first(), Some(&5));
    assert_eq!(ranked(&texts, "3.14").first(), Some(&7));
}

#[test]
fn a_phrase_of_stop_words_has_an_answer() {
    let texts = [
        "that is not it, be or to, in the of",
        "To be, or not to be, that is the question",
        "to be or not to be",
        "nothing of the kind is to be seen here, not in this or in that",
    ];
    assert_eq!(ranked(&texts, "to be or not to be").first(), Some(&2));
}

#[test]
fn scripts_without_spaces_are_searchable() {
    let texts = ["東京都の天気", "京都の天気は晴れ", "猫が好き", "สวัสดีชาวโลก"];
    assert_eq!(ranked(&texts, "東京").first(), Some(&0));
    assert_eq!(ranked(&texts, "猫"), [2]);
    assert_eq!(ranked(&texts, "ชาวโลก"), [3]);
}

#[test]
fn equals_are_ordered_by_row() {
    assert_eq!(ranked(&["same text", "same text", "other", "same text"], "same"), [0, 1, 3]);
}
