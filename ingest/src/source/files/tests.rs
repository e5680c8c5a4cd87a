//! Tests of what a look at a folder leads to, on a clock of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;

use super::*;
use crate::source::survey::Observation;

const RECIPE: &str = "0123456789abcdef";
const OLD_NS: i64 = 1_000;
const NOW_NS: i64 = 1_000_000_000_000;
const GRACE: Duration = Duration::from_millis(250);

fn stat(size: u64, modified_ns: i64, inode: u64) -> FileStat {
    FileStat { size, modified_ns, inode: Some(inode) }
}

fn survey(scope: &str, seen: &[(&str, Seen)]) -> Survey {
    let observe = |(key, seen): &(&str, Seen)| {
        ((*key).to_owned(), Observation { path: PathBuf::from(key), seen: seen.clone() })
    };
    Survey { scopes: vec![scope.into()], seen: seen.iter().map(observe).collect(), ..Survey::default() }
}

struct Case {
    files: Files,
    start: Instant,
    closed: HashSet<String>,
}

impl Case {
    /// Files that are indexed as `stat(10, OLD_NS, inode)`, with inodes from 1.
    fn indexed(keys: &[&str]) -> Self {
        let mut case = Self { files: Files::default(), start: Instant::now(), closed: HashSet::new() };
        let seen: Vec<_> =
            keys.iter().zip(1..).map(|(key, i)| (*key, Seen::File(stat(10, OLD_NS, i)))).collect();
        case.plan(0, survey("", &seen));
        for (key, seen) in seen {
            let Seen::File(stat) = seen else { unreachable!() };
            case.store(key, stat, NOW_NS);
        }
        case
    }

    fn plan(&mut self, ms: u64, survey: Survey) -> Plan {
        let circumstances = Circumstances {
            recipe: RECIPE,
            now: self.start + Duration::from_millis(ms),
            now_ns: NOW_NS,
            settle: Duration::from_millis(200),
            removal_grace: GRACE,
            reingest_outdated: false,
            closed: &self.closed,
        };
        self.files.plan(survey, &circumstances)
    }

    fn store(&mut self, key: &str, stat: FileStat, read_ns: i64) -> bool {
        let version = format!("{RECIPE}rest");
        let change =
            |record: &mut FileRecord| record.set_stored(FileState::Indexed, stat, read_ns, version, 1);
        self.files.finish(key, self.start, false, change)
    }
}

fn ingest(key: &str) -> Job {
    Job::Ingest { key: key.into(), path: Path::new(key).into() }
}

#[test]
fn an_unchanged_file_needs_nothing() {
    let mut case = Case::indexed(&["a"]);
    let plan = case.plan(1, survey("", &[("a", Seen::File(stat(10, OLD_NS, 1)))]));
    assert!(plan.jobs.is_empty() && plan.look_again.is_empty());
}

#[test]
fn a_changed_size_or_time_needs_a_reading() {
    for changed in [stat(11, OLD_NS, 1), stat(10, OLD_NS + 1, 1)] {
        let mut case = Case::indexed(&["a"]);
        assert_eq!(case.plan(1, survey("", &[("a", Seen::File(changed))])).jobs, [ingest("a")]);
    }
}

#[test]
fn a_document_of_another_recipe_is_made_again_when_somebody_says_so() {
    let mut case = Case::indexed(&["a", "b"]);
    let outdate = |record: &mut FileRecord| record.version = "another recipe and the rest".into();
    case.files.finish("a", case.start, false, outdate);
    let seen =
        || survey("", &[("a", Seen::File(stat(10, OLD_NS, 1))), ("b", Seen::File(stat(10, OLD_NS, 2)))]);
    assert!(case.plan(1, seen()).jobs.is_empty());
    let shown: Vec<_> = case.files.after(None).map(|(_, _, state)| state).collect();
    assert_eq!(shown, [FileState::Outdated, FileState::Indexed]);
    assert_eq!((case.files.counts().indexed, case.files.counts().outdated), (2, 1));
    assert_eq!(case.files.accept_recipe(), 1);
    assert_eq!(case.plan(2, seen()).jobs, [ingest("a")]);
    // One that failed is tried with a new recipe in any case.
    let mut case = Case::indexed(&["a"]);
    let fail = |record: &mut FileRecord| {
        record.version = "another recipe and the rest".into();
        record.state = FileState::Failed { reason: "broken".into() };
    };
    case.files.finish("a", case.start, false, fail);
    assert_eq!(case.plan(1, survey("", &[("a", Seen::File(stat(10, OLD_NS, 1)))])).jobs, [ingest("a")]);
}

#[test]
fn a_failed_file_waits_until_it_is_retried_and_a_cleared_one_until_it_changes() {
    let mut case = Case::indexed(&["a"]);
    let fail = |record: &mut FileRecord| record.state = FileState::Failed { reason: "broken".into() };
    case.files.finish("a", case.start, false, fail);
    let seen = |size| survey("", &[("a", Seen::File(stat(size, OLD_NS, 1)))]);
    assert!(case.plan(1, seen(10)).jobs.is_empty());
    assert_eq!(case.files.failed(&["b".into()]), [""; 0]);
    let failed = case.files.failed(&[]);
    assert_eq!(failed, ["a"]);
    assert_eq!(case.files.take_failed(&[]), ["a"]);
    assert!(case.files.failed(&[]).is_empty(), "it is busy");
    case.files.finish("a", case.start, true, |record| record.set_asked(case.start));
    assert_eq!(case.plan(2, seen(10)).jobs, [ingest("a")]);
    assert_eq!(case.files.failed(&[]), [""; 0], "it is in work");
    case.files.finish("a", case.start, false, |record| record.set_cleared("broken".into()));
    assert!(case.plan(3, seen(10)).jobs.is_empty());
    assert_eq!(case.plan(4, seen(11)).jobs, [ingest("a")]);
}

#[test]
fn work_shows_how_far_it_is() {
    let mut case = Case::indexed(&["a"]);
    case.plan(1, survey("", &[("a", Seen::File(stat(11, OLD_NS, 1)))]));
    let progress = Progress::default();
    case.files.begin("a", &progress);
    let shown = |files: &Files| files.after(None).map(|(_, _, state)| state).next().unwrap();
    assert_eq!(shown(&case.files), FileState::Queued);
    progress.set(Stage::Extracting);
    assert_eq!(shown(&case.files), FileState::Extracting);
    progress.set(Stage::Embedding);
    assert_eq!(shown(&case.files), FileState::Embedding);
    case.store("a", stat(11, OLD_NS, 1), NOW_NS);
    assert_eq!(shown(&case.files), FileState::Indexed);
}

#[test]
fn a_file_read_right_after_its_change_is_read_once_more() {
    let mut case = Case::indexed(&["a"]);
    let seen = || survey("", &[("a", Seen::File(stat(10, NOW_NS - 1_000_000_000, 1)))]);
    case.plan(1, seen());
    case.store("a", stat(10, NOW_NS - 1_000_000_000, 1), NOW_NS - 999_000_000);
    assert_eq!(case.plan(2, seen()).jobs, [ingest("a")]);
    case.store("a", stat(10, NOW_NS - 1_000_000_000, 1), NOW_NS);
    assert!(case.plan(3, seen()).jobs.is_empty());
}

#[test]
fn a_young_file_waits_unless_its_writer_closed_it() {
    let mut case = Case::indexed(&[]);
    let seen = || survey("a", &[("a", Seen::File(stat(10, NOW_NS - 1_000_000, 1)))]);
    let plan = case.plan(1, seen());
    assert_eq!((plan.jobs.len(), plan.look_again.len()), (0, 1));
    assert_eq!(case.files.counts().pending, 1);
    case.closed.insert("a".into());
    assert_eq!(case.plan(2, seen()).jobs, [ingest("a")]);
}

#[test]
fn a_file_is_removed_only_after_it_was_found_gone_twice() {
    let mut case = Case::indexed(&["a", "b/c"]);
    let plan = case.plan(1, survey("", &[]));
    assert_eq!((plan.jobs.len(), plan.look_again.len()), (0, 2));
    // A look elsewhere does not confirm it.
    assert!(case.plan(900, survey("x", &[])).jobs.is_empty());
    let plan = case.plan(901, survey("b", &[]));
    assert_eq!(plan.jobs, [Job::Remove { keys: vec!["b/c".into()] }]);
    // It came back in time.
    assert!(case.plan(902, survey("a", &[("a", Seen::File(stat(10, OLD_NS, 1)))])).jobs.is_empty());
    assert!(case.plan(903, survey("a", &[])).jobs.is_empty());
}

#[test]
fn what_could_not_be_read_stays() {
    let mut case = Case::indexed(&["a/b", "c"]);
    for ms in [1, 1_000] {
        let blind =
            Survey { unreadable: vec!["a".into()], ..survey("", &[("c", Seen::File(stat(10, OLD_NS, 2)))]) };
        let plan = case.plan(ms, blind);
        assert!(plan.jobs.is_empty() && plan.look_again.is_empty());
    }
}

#[test]
fn a_scope_ends_at_its_folder() {
    let mut case = Case::indexed(&["a", "a/b", "a.txt", "ab"]);
    let plan = case.plan(1, survey("a", &[]));
    let mut looks: Vec<_> = plan.look_again.into_iter().map(|(path, _)| path).collect();
    looks.sort();
    assert_eq!(looks, [PathBuf::from("a"), PathBuf::from("a/b")]);
}

#[test]
fn a_file_under_a_new_name_is_followed() {
    // Same inode and time: a rename. Another inode: a copy that kept the time. Same inode: renamed and touched.
    for new in [stat(10, OLD_NS, 1), stat(10, OLD_NS, 99), stat(10, OLD_NS + 5, 1)] {
        let mut case = Case::indexed(&["a", "b"]);
        let seen = [("b", Seen::File(stat(10, OLD_NS, 2))), ("z", Seen::File(new))];
        let plan = case.plan(1, survey("", &seen));
        let follow = Job::Move { from: "a".into(), from_path: "a".into(), to: "z".into(), path: "z".into() };
        assert_eq!(plan.jobs, [follow]);
        assert!(plan.look_again.is_empty());
    }
    let mut case = Case::indexed(&["a"]);
    let plan = case.plan(1, survey("", &[("z", Seen::File(stat(11, OLD_NS, 1)))]));
    assert_eq!(plan.jobs, [ingest("z")]);
}

#[test]
fn each_vanished_file_is_followed_to_one_place() {
    let mut case = Case::indexed(&["a", "b"]);
    let seen: Vec<_> =
        ["x", "y", "z"].into_iter().map(|key| (key, Seen::File(stat(10, OLD_NS, 50)))).collect();
    let jobs = case.plan(1, survey("", &seen)).jobs;
    let moves = jobs.iter().filter(|job| matches!(job, Job::Move { .. })).count();
    assert_eq!((jobs.len(), moves), (3, 2));
}

#[test]
fn what_happens_to_a_busy_file_is_looked_at_when_it_is_done() {
    let mut case = Case::indexed(&["a"]);
    let changed = || survey("", &[("a", Seen::File(stat(11, OLD_NS, 1)))]);
    assert_eq!(case.plan(1, changed()).jobs.len(), 1);
    assert!(case.plan(2, changed()).jobs.is_empty());
    assert!(case.store("a", stat(11, OLD_NS, 1), NOW_NS));
    assert!(!case.store("a", stat(11, OLD_NS, 1), NOW_NS));
}

#[test]
fn a_passing_failure_waits_for_its_time() {
    let mut case = Case::indexed(&["a"]);
    let seen = || survey("", &[("a", Seen::File(stat(11, OLD_NS, 1)))]);
    case.plan(1, seen());
    let retry_at = case.start + Duration::from_millis(500);
    let change =
        |record: &mut FileRecord| record.set_retry("away".into(), Some(stat(11, OLD_NS, 1)), retry_at);
    case.files.finish("a", case.start, false, change);
    assert!(case.plan(499, seen()).jobs.is_empty());
    assert_eq!(case.files.counts().failed, 1);
    assert_eq!(case.plan(500, seen()).jobs, [ingest("a")]);
    assert_eq!(case.files.get("a").unwrap().tries, 1);
}

#[test]
fn a_next_try_is_taken_over_and_waits_no_longer_than_it_may() {
    let names = Names::new(Path::new("/watched"));
    let start = Instant::now();
    let hour = Duration::from_secs(3_600);
    let retry = |key: &str, due_ms| {
        let id = format!("/watched/{key}");
        let retry = Retry { reason: "away".into(), tries: 4, due_ms, size_bytes: 10, modified_ns: OLD_NS };
        (id, retry)
    };
    let now_ms = NOW_NS / NS_PER_MS;
    let mut case = Case { files: Files::default(), start, closed: HashSet::new() };
    let retries = vec![
        retry("changed", now_ms + 60_000),
        retry("far", i64::MAX),
        retry("over", i64::MIN),
        retry("soon", now_ms + 60_000),
        ("/elsewhere/x".to_owned(), retry("x", 0).1),
    ];
    case.files.take_retries(retries, &names, start, NOW_NS, hour);
    let mut waits = case.files.waiting(start);
    waits.sort();
    let minute = Duration::from_secs(60);
    let expect = [("changed", minute), ("far", hour), ("over", Duration::ZERO), ("soon", minute)];
    assert_eq!(waits, expect.map(|(key, wait)| (PathBuf::from(key), wait)));
    let seen = |size| {
        let stat = |key: &str| Seen::File(stat(if key == "changed" { size } else { 10 }, OLD_NS, 1));
        survey("", &["changed", "far", "over", "soon"].map(|key| (key, stat(key))))
    };
    assert_eq!(case.plan(1, seen(10)).jobs, [ingest("over")]);
    assert_eq!(case.plan(2, seen(11)).jobs, [ingest("changed")]);
    assert_eq!(case.plan(60_000, seen(11)).jobs, [ingest("soon")]);
    // One that is gone is forgotten, though nothing of it is stored.
    assert!(case.plan(60_001, survey("far", &[])).jobs.is_empty());
    assert_eq!(case.plan(60_500, survey("far", &[])).jobs, [Job::Remove { keys: vec!["far".into()] }]);
    case.files.finish("far", start, false, FileRecord::set_removed);
    assert!(case.files.get("far").is_none());
}

#[test]
fn a_void_takes_what_was_indexed_with_it_and_keeps_its_reason() {
    let mut case = Case::indexed(&["a"]);
    let void = || survey("a", &[("a", Seen::Void("empty".into()))]);
    case.plan(1, void());
    assert_eq!(case.plan(300, void()).jobs, [Job::Remove { keys: vec!["a".into()] }]);
    case.files.finish("a", case.start, false, FileRecord::set_removed);
    assert_eq!(case.files.counts().skipped, 1);
    assert!(case.plan(600, void()).jobs.is_empty());
    assert_eq!(case.plan(700, survey("a", &[("a", Seen::File(stat(1, OLD_NS, 1)))])).jobs, [ingest("a")]);
}

#[test]
fn the_ledger_is_taken_over_unless_something_newer_is_known() {
    let names = Names::new(Path::new("/watched"));
    let entry = |id: &str, version: &str| DocumentEntry {
        id: id.into(),
        uri: String::new(),
        title: String::new(),
        media_type: String::new(),
        version: format!("{RECIPE}{version}"),
        size_bytes: 10,
        modified_ns: Some(OLD_NS),
        chunks: 3,
        state: EntryState::Indexed,
        source_id: "s".into(),
    };
    let mut files = Files::default();
    let before = Instant::now();
    let foreign = files.take_ledger(vec![entry("/watched/a", "1"), entry("/other/b", "1")], &names, before);
    assert_eq!(foreign, ["/other/b"]);
    assert_eq!((files.get("a").unwrap().chunks, files.counts().indexed), (3, 1));

    // Stored anew since the ledger was read: the reading is stale.
    let later = before + Duration::from_secs(1);
    let change = |record: &mut FileRecord| {
        record.set_stored(FileState::Indexed, stat(20, 5, 1), NOW_NS, format!("{RECIPE}2"), 4);
    };
    files.finish("a", later, false, change);
    files.take_ledger(vec![entry("/watched/a", "1")], &names, before);
    assert_eq!(files.get("a").unwrap().chunks, 4);
    files.take_ledger(Vec::new(), &names, before);
    assert!(files.any_stored());

    // Deleted by somebody else.
    files.take_ledger(Vec::new(), &names, later + Duration::from_secs(1));
    assert!(!files.any_stored());
}
