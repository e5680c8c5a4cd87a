//! What goes wrong with folders: disks that are away, links in circles, clocks that jump, files that turn into folders,
//! and people who have to decide.

use std::time::SystemTime;

use super::*;
use crate::chunk::ChunkSettings;

/// For tests that write very many files.
const LONG_PATIENCE: Duration = Duration::from_secs(240);

impl Fixture {
    fn path(&self, relative: &str) -> std::path::PathBuf {
        self.folder.path().join(relative)
    }

    fn source(&self) -> FolderSource {
        FolderSource::new("c", self.folder.path(), Vec::new()).unwrap()
    }

    /// Puts another folder in the place of the watched one. Returns where that is now.
    fn replace_root(&self, away: &TempDir, files: usize) -> std::path::PathBuf {
        let aside = away.path().join("aside");
        let other = away.path().join("other");
        fs::create_dir(&other).unwrap();
        for i in 0..files {
            fs::write(other.join(format!("foreign{i}.txt")), format!("foreign {i}")).unwrap();
        }
        fs::rename(self.folder.path(), &aside).unwrap();
        fs::rename(&other, self.folder.path()).unwrap();
        aside
    }

    async fn doubts(&self) {
        self.until("it doubts", || {
            self.status().error.is_some_and(|error| error.contains("nothing is deleted"))
        })
        .await;
        assert_eq!(self.status().state, SourceState::Unavailable);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn links_in_circles_end() {
    use std::os::unix::fs::symlink;
    let f = Fixture::stopped(scans_only());
    f.write("sub/deep/a.txt", "alpha");
    symlink("..", f.path("sub/deep/up")).unwrap();
    symlink(f.folder.path(), f.path("sub/root")).unwrap();
    symlink("second", f.path("first")).unwrap();
    symlink("first", f.path("second")).unwrap();
    symlink("self", f.path("self")).unwrap();
    f.start().await;
    f.agrees(&[("sub/deep/a.txt", "alpha")]).await;
    assert!(matches!(f.file("self").unwrap().state, FileState::Skipped { .. }));
    // Nothing but what every source without events says.
    assert!(f.status().error.unwrap().contains("switched off"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_become_a_folder_and_back() {
    for config in [config(), scans_only()] {
        let f = Fixture::stopped(config);
        f.write("a.txt", "a file");
        f.write("b.txt/in.txt", "in a folder");
        f.start().await;
        f.agrees(&[("a.txt", "a file"), ("b.txt/in.txt", "in a folder")]).await;
        f.remove("a.txt");
        f.write("a.txt/deep/in.txt", "now a folder");
        fs::remove_dir_all(f.path("b.txt")).unwrap();
        f.write("b.txt", "now a file");
        f.agrees(&[("a.txt/deep/in.txt", "now a folder"), ("b.txt", "now a file")]).await;
        fs::remove_dir_all(f.path("a.txt")).unwrap();
        f.write("a.txt", "a file again");
        f.agrees(&[("a.txt", "a file again"), ("b.txt", "now a file")]).await;
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_delete_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let f = Fixture::stopped(scans_only());
    f.write("file.txt", "old");
    f.write("folder/in.txt", "inside");
    f.start().await;
    let allow = |path: &str, mode| {
        fs::set_permissions(f.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    f.write("file.txt", "newer");
    allow("file.txt", 0o000);
    allow("folder", 0o000);
    if fs::read(f.path("file.txt")).is_ok() {
        allow("folder", 0o755);
        println!("skipped: this user may read everything");
        return;
    }
    f.until("the failure", || {
        f.file("file.txt").is_some_and(|file| matches!(file.state, FileState::Failed { .. }))
    })
    .await;
    assert_eq!(f.stored()["file.txt"], "old");
    assert_eq!(f.stored()["folder/in.txt"], "inside");
    assert!(f.file("file.txt").unwrap().retry_at.is_some());
    allow("file.txt", 0o644);
    allow("folder", 0o755);
    f.agrees(&[("file.txt", "newer"), ("folder/in.txt", "inside")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_file_ends_whole() {
    for config in [config(), scans_only()] {
        let f = Fixture::stopped(config);
        f.start().await;
        let mut file = File::create(f.path("log.txt")).unwrap();
        let mut all = Vec::new();
        for i in 0..40 {
            let word = format!("word{i}");
            write!(file, "{word} ").unwrap();
            all.push(word);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(file);
        f.agrees(&[("log.txt", &all.join(" "))]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_may_jump() {
    let f = Fixture::stopped(scans_only());
    let set = |time: SystemTime| {
        File::options().write(true).open(f.path("a.txt")).unwrap().set_modified(time).unwrap();
    };
    let now = SystemTime::now();
    let year = Duration::from_secs(365 * 86_400);
    f.write("a.txt", "text 0");
    set(now + 20 * year);
    f.start().await;
    f.agrees(&[("a.txt", "text 0")]).await;
    // Each of the same size, and most of them older than the one before.
    let times = [now - year, SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH - year, now + year, now];
    for (i, time) in (1..).zip(times) {
        let text = format!("text {i}");
        f.write("a.txt", &text);
        set(time);
        f.agrees(&[("a.txt", &text)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_files_comes_in_whole() {
    const FOLDERS: usize = 40;
    const FILES: usize = 75;
    let f = Fixture::new();
    f.start().await;
    for folder in 0..FOLDERS {
        for file in 0..FILES {
            f.write(&format!("burst/{folder}/deep/{file}.txt"), &format!("text {folder} {file}"));
        }
    }
    let count = || f.sink.documents.lock().len();
    let end = Instant::now() + LONG_PATIENCE;
    let settled = |expected: usize| count() == expected && f.status().state == SourceState::Watching;
    while !settled(FOLDERS * FILES) {
        assert!(Instant::now() < end, "{} of {}: {:?}", count(), FOLDERS * FILES, f.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // As when another branch is checked out: some go, some come, some stay.
    let embedded = f.embedder.texts.lock().len();
    f.rename("burst/0", "burst/renamed");
    fs::remove_dir_all(f.path("burst/1")).unwrap();
    f.write("burst/new.txt", "new");
    f.until("the other branch", || settled((FOLDERS - 1) * FILES + 1)).await;
    assert_eq!(f.stored()["burst/renamed/deep/7.txt"], "text 0 7");
    assert_eq!(f.embedder.texts.lock().len(), embedded + 1, "what moved is not embedded again");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_folder_in_its_place_deletes_nothing_before_somebody_says_so() {
    let f = Fixture::new();
    for i in 0..12 {
        f.write(&format!("{i}.txt"), &format!("text {i}"));
    }
    f.start().await;
    assert_eq!(f.manager.accept_loss(&f.id).unwrap_err().kind(), ErrorKind::FailedPrecondition);
    let away = tempfile::tempdir_in(f.folder.path().parent().unwrap()).unwrap();
    let aside = f.replace_root(&away, 3);
    f.doubts().await;
    assert_eq!((f.stored().len(), f.sink.calls.lock().deleted), (12, 0));
    // The right one comes back.
    let other = away.path().join("other");
    fs::rename(f.folder.path(), &other).unwrap();
    fs::rename(&aside, f.folder.path()).unwrap();
    f.until("it watches", || f.status().state == SourceState::Watching).await;
    assert_eq!((f.stored().len(), f.sink.calls.lock().deleted), (12, 0));
    // The other one again, and it is meant.
    fs::rename(f.folder.path(), &aside).unwrap();
    fs::rename(&other, f.folder.path()).unwrap();
    f.doubts().await;
    f.manager.accept_loss(&f.id).unwrap();
    f.agrees(&[("foreign0.txt", "foreign 0"), ("foreign1.txt", "foreign 1"), ("foreign2.txt", "foreign 2")])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_away_at_the_start_deletes_nothing() {
    let mut f = Fixture::new();
    for i in 0..12 {
        f.write(&format!("{i}.txt"), &format!("text {i}"));
    }
    f.start().await;
    f.restart(config()).await;
    let away = tempfile::tempdir_in(f.folder.path().parent().unwrap()).unwrap();
    let aside = f.replace_root(&away, 0);
    f.manager.add(f.source()).unwrap();
    f.doubts().await;
    fs::remove_dir(f.folder.path()).unwrap();
    fs::rename(&aside, f.folder.path()).unwrap();
    // Some may go while nobody looks, as long as most are there.
    f.remove("0.txt");
    f.until("it watches", || f.status().state == SourceState::Watching && f.stored().len() == 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rules_that_leave_most_out_are_no_loss() {
    let mut f = Fixture::new();
    for i in 0..12 {
        f.write(&format!("{i}.txt"), &format!("text {i}"));
    }
    f.write("a.md", "alpha");
    f.start().await;
    f.restart(config()).await;
    f.start_ignoring(&["*.txt"]).await;
    f.agrees(&[("a.md", "alpha")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_may_ask_for_scans_only() {
    let f = Fixture::stopped(SourceConfig { poll_interval: Duration::from_millis(50), ..config() });
    f.write("a.txt", "alpha");
    let status = f.manager.add(FolderSource { poll: true, ..f.source() }).unwrap();
    assert!(matches!(status.noticing, Noticing::Scans { .. }) && status.error.is_none());
    f.agrees(&[("a.txt", "alpha")]).await;
    f.write("a.txt", "changed");
    f.write("b.txt", "beta");
    f.agrees(&[("a.txt", "changed"), ("b.txt", "beta")]).await;
    assert!(matches!(f.status().noticing, Noticing::Scans { .. }) && f.status().error.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_listed_retried_and_cleared() {
    let slow = SourceConfig { retry_first: Duration::from_secs(3_600), ..config() };
    let mut f = Fixture::stopped(slow.clone());
    f.embedder.broken.store(true, Ordering::SeqCst);
    f.write("good.txt", "good");
    f.write("bad.pdf", "%PDF-1.4 and nothing more");
    f.manager.add(f.source()).unwrap();
    let failures = |f: &Fixture| {
        let is_failed = |state: &FileState| matches!(state, FileState::Failed { .. });
        f.manager.files_where(&f.id, None, 10, is_failed).unwrap().files
    };
    f.until("both fail", || failures(&f).len() == 2).await;
    let listed = failures(&f);
    let bad = &listed[0];
    assert_eq!((bad.path.as_str(), bad.retry_at, bad.tries), ("bad.pdf", None, 0));
    let good = &listed[1];
    let wait = good.retry_at.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(200) && good.tries == 1, "{wait:?}");

    // One that is tried again by itself is not cleared.
    assert_eq!(f.manager.clear(&f.id, &["good.txt".into()]).await.unwrap(), 0);
    assert_eq!(f.manager.retry(&f.id, &["nosuch.txt".into()]).await.unwrap(), 0);
    f.embedder.broken.store(false, Ordering::SeqCst);
    assert_eq!(f.manager.retry(&f.id, &[]).await.unwrap(), 2);
    f.agrees(&[("good.txt", "good")]).await;
    f.until("the other fails again", || failures(&f).len() == 1).await;

    assert_eq!(f.manager.clear(&f.id, &[]).await.unwrap(), 1);
    assert!(failures(&f).is_empty());
    let reason = |f: &Fixture| match f.file("bad.pdf").unwrap().state {
        FileState::Skipped { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason(&f).starts_with("cleared by hand: "));
    // Also after a restart, and until it changes.
    f.restart(slow).await;
    f.start().await;
    assert!(failures(&f).is_empty() && reason(&f).starts_with("cleared by hand: "));
    assert_eq!(f.pipeline.stats().extracted, 0);
    f.write("bad.pdf", "%PDF-1.4 still nothing more");
    f.until("it fails anew", || failures(&f).len() == 1).await;
}

/// The wait before the next try of what failed once.
fn patient() -> SourceConfig {
    let hour = Duration::from_secs(3_600);
    SourceConfig { retry_first: hour, retry_last: hour, ..config() }
}

impl Fixture {
    async fn fails(&self, path: &str, tries: u32) {
        self.until("it fails", || {
            let failed = |file: FileStatus| {
                matches!(file.state, FileState::Failed { .. })
                    && file.tries == tries
                    && file.retry_at.is_some()
            };
            self.file(path).is_some_and(failed)
        })
        .await;
    }

    /// The time of the next try, as the ledger has it, is over.
    fn let_time_pass(&self) {
        self.sink.retries.lock().values_mut().for_each(|retry| retry.due_ms = 1);
    }

    fn retries(&self) -> Vec<(String, u32)> {
        self.sink.retries.lock().iter().map(|(id, retry)| (id.clone(), retry.tries)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tries_what_failed_at_its_time_and_not_before() {
    let mut f = Fixture::stopped(patient());
    f.write("new.txt", "new");
    f.write("old.txt", "old");
    f.start().await;
    f.remove("new.txt");
    f.agrees(&[("old.txt", "old")]).await;
    f.embedder.broken.store(true, Ordering::SeqCst);
    f.write("new.txt", "new again");
    f.write("old.txt", "changed");
    f.fails("new.txt", 1).await;
    f.fails("old.txt", 1).await;
    assert_eq!(f.retries(), [(f.id_of("new.txt"), 1), (f.id_of("old.txt"), 1)]);
    // What is stored stays as it is.
    assert_eq!(f.sink.get(&f.id_of("old.txt")).unwrap().entry.state, EntryState::Indexed);

    f.embedder.broken.store(false, Ordering::SeqCst);
    f.restart(patient()).await;
    f.start().await;
    f.fails("new.txt", 1).await;
    f.fails("old.txt", 1).await;
    f.scanned().await;
    let wait = f.file("old.txt").unwrap().retry_at.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(3_000), "{wait:?}");
    assert_eq!(f.file("old.txt").unwrap().state, FileState::Failed { reason: "the embedder is away".into() });
    assert_eq!((f.pipeline.stats().extracted, f.stored()["old.txt"].as_str()), (0, "old"));

    // Tries are counted on, and each wait is longer than the one before.
    f.embedder.broken.store(true, Ordering::SeqCst);
    f.let_time_pass();
    f.restart(patient()).await;
    f.start().await;
    f.fails("new.txt", 2).await;
    f.fails("old.txt", 2).await;
    assert_eq!(f.retries(), [(f.id_of("new.txt"), 2), (f.id_of("old.txt"), 2)]);

    f.embedder.broken.store(false, Ordering::SeqCst);
    f.let_time_pass();
    f.restart(patient()).await;
    f.start().await;
    f.agrees(&[("new.txt", "new again"), ("old.txt", "changed")]).await;
    assert_eq!(f.retries(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_next_try_follows_its_file() {
    let mut f = Fixture::stopped(patient());
    f.write("back.txt", "stored");
    f.start().await;
    f.embedder.broken.store(true, Ordering::SeqCst);
    for name in ["back.txt", "changed.txt", "gone.txt"] {
        f.write(name, "what fails");
        f.fails(name, 1).await;
    }
    f.manager.shutdown().await;
    f.embedder.broken.store(false, Ordering::SeqCst);
    f.remove("gone.txt");
    f.write("changed.txt", "another content");
    // The same as is stored: nothing is written of it, and yet it is not tried any more.
    f.write("back.txt", "stored");
    f.restart(patient()).await;
    f.manager.add(f.source()).unwrap();
    f.agrees(&[("back.txt", "stored"), ("changed.txt", "another content")]).await;
    f.until("nothing waits", || f.retries().is_empty()).await;
    assert!(f.file("gone.txt").is_none());

    f.embedder.broken.store(true, Ordering::SeqCst);
    f.write("left.txt", "left behind");
    f.fails("left.txt", 1).await;
    f.manager.remove(&f.id, false).await.unwrap();
    assert_eq!(f.retries(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_forget_that_a_try_was_asked_for() {
    let mut f = Fixture::stopped(patient());
    f.embedder.broken.store(true, Ordering::SeqCst);
    f.write("a.txt", "text");
    f.manager.add(f.source()).unwrap();
    f.fails("a.txt", 1).await;
    f.write("bad.pdf", "%PDF-1.4 and nothing more");
    let is_dead = |f: &Fixture| {
        let dead =
            |file: FileStatus| matches!(file.state, FileState::Failed { .. }) && file.retry_at.is_none();
        f.file("bad.pdf").is_some_and(dead)
    };
    f.until("it fails for good", || is_dead(&f)).await;
    assert_eq!(f.retries(), [(f.id_of("a.txt"), 1)]);
    // As a crash between the request and the try leaves it.
    f.manager.shutdown().await;
    let shared = Shared::new(f.source(), Noticing::Events);
    let manager = SourceManager::new(Arc::clone(&f.pipeline), Arc::clone(&f.sink) as _, patient());
    let entries = f.sink.documents_of_source("c", &f.id).await.unwrap();
    shared.files.lock().take_ledger(entries, &shared.names, Instant::now());
    let dead = shared.files.lock().take_failed(&[]);
    assert_eq!(dead, ["bad.pdf"]);
    manager.retry_group(&shared, &dead).await;
    assert_eq!(f.retries(), [(f.id_of("a.txt"), 1), (f.id_of("bad.pdf"), 0)]);

    let puts = f.sink.calls.lock().failures;
    f.restart(patient()).await;
    f.start().await;
    f.until("it was tried", || f.sink.calls.lock().failures > puts && is_dead(&f)).await;
    assert_eq!(f.retries(), [(f.id_of("a.txt"), 1)]);
    // Without a request it stays as it is.
    f.restart(patient()).await;
    f.start().await;
    assert!(is_dead(&f));
    assert_eq!(f.sink.calls.lock().failures, puts + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_made_with_other_settings_are_outdated_until_somebody_says_so() {
    let mut f = Fixture::new();
    f.write("a.txt", "alpha");
    f.write("b.txt", "beta");
    f.start().await;
    let changed = |f: &Fixture| {
        let chunk = ChunkSettings { max_tokens: Some(16), ..ChunkSettings::default() };
        FolderSource { options: IngestOptions { chunk, ..IngestOptions::default() }, ..f.source() }
    };
    f.restart(config()).await;
    f.manager.add(changed(&f)).unwrap();
    f.until("it watches", || f.status().state == SourceState::Watching).await;
    assert_eq!((f.status().files.indexed, f.status().files.outdated), (2, 2));
    assert_eq!(f.file("a.txt").unwrap().state, FileState::Outdated);
    assert_eq!(f.pipeline.stats().extracted, 0);
    // One that changes is made anew anyway.
    f.write("a.txt", "changed");
    f.agrees(&[("a.txt", "changed"), ("b.txt", "beta")]).await;
    assert_eq!(f.status().files.outdated, 1);
    assert_eq!(f.manager.reingest_outdated(&f.id).unwrap(), 1);
    f.until("nothing is outdated", || f.status().files.outdated == 0 && f.status().files.pending == 0).await;
    assert_eq!(f.pipeline.stats().extracted, 2);
    // A person who changes the options of a source wants them to hold.
    f.restart(config()).await;
    f.manager.add_changed(f.source()).unwrap();
    f.until("all are made again", || f.pipeline.stats().indexed == 2).await;
    assert_eq!(f.status().files.outdated, 0);
}
