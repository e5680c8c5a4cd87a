//! What the system tells about a folder, as hints: where to look, and how soon. Never a fact: the look decides.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::config::{HINT_QUEUE, MAX_PENDING_PATHS, SourceConfig};
use super::rules::is_rule_file;

/// Whether the system tells when a writer closes a file.
const SEES_CLOSE: bool = cfg!(any(target_os = "linux", target_os = "android"));
/// A new folder is looked into when its own watch has been set up, and once more for what fell in between.
const NEW_FOLDER_LOOKS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(1_000)];
/// Changed rules are read when the editor is done with them.
const RULES_SETTLE: Duration = Duration::from_millis(100);

/// Where to look, and how soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hint {
    /// A writer closed the file: it is complete.
    Closed(PathBuf),
    /// Something writes to it.
    Written(PathBuf),
    /// Its time or rights changed.
    Touched(PathBuf),
    /// It came, went, or changed its name.
    Moved(PathBuf),
    /// A new folder.
    Folder(PathBuf),
    /// The rules changed: look at everything.
    Rules,
    /// Events were lost: look at everything.
    Rescan,
    /// The system does not tell any more, for this reason.
    Blind(String),
}

/// The hints of an event. Reading a file leads to none.
pub(crate) fn hints(event: notify::Event) -> Vec<Hint> {
    if event.need_rescan() {
        return vec![Hint::Rescan];
    }
    let make: fn(PathBuf) -> Hint = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Closed,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Create(CreateKind::Folder) => Hint::Folder,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => Hint::Written,
        EventKind::Modify(ModifyKind::Metadata(_)) => Hint::Touched,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => Hint::Moved,
        EventKind::Modify(_) | EventKind::Any | EventKind::Other if event.paths.is_empty() => {
            return vec![Hint::Rescan];
        }
        EventKind::Modify(_) | EventKind::Any | EventKind::Other => Hint::Written,
    };
    let hint = |path: PathBuf| if is_rule_file(&path) { Hint::Rules } else { make(path) };
    event.paths.into_iter().map(hint).collect()
}

/// The system's watch of a folder. Dropped, it ends.
pub(crate) struct Watch {
    pub hints: mpsc::Receiver<Hint>,
    overflow: Arc<AtomicBool>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches a folder and all below it. Blocks: every folder below is visited.
    ///
    /// # Errors
    /// A sentence that says why the system can't watch it.
    pub fn new(root: &Path) -> Result<Self, String> {
        let (sender, hints_of_folder) = mpsc::channel(HINT_QUEUE);
        let overflow = Arc::new(AtomicBool::new(false));
        let lost = Arc::clone(&overflow);
        let handler = move |event: notify::Result<notify::Event>| {
            let new = match event {
                Ok(event) => hints(event),
                Err(error) => vec![Hint::Blind(explain(&error))],
            };
            for hint in new {
                // Never blocks the watcher: what does not fit becomes one scan.
                if sender.try_send(hint).is_err() {
                    lost.store(true, Ordering::Release);
                }
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(handler, config).map_err(|error| explain(&error))?;
        watcher.watch(root, RecursiveMode::Recursive).map_err(|error| explain(&error))?;
        Ok(Self { hints: hints_of_folder, overflow, _watcher: watcher })
    }

    /// Whether hints were lost since the last call.
    pub fn take_overflow(&self) -> bool {
        self.overflow.swap(false, Ordering::AcqRel)
    }
}

fn explain(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system's limit of watched folders is reached (Linux: raise fs.inotify.max_user_watches)"
                .into()
        }
        _ => error.to_string(),
    }
}

/// Paths that wait for their time, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// By path relative to the root.
    waits: HashMap<PathBuf, Wait>,
    /// The same by time.
    order: BTreeMap<(Instant, u64), PathBuf>,
    next_ticket: u64,
    rescan_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    due: Instant,
    ticket: u64,
    closed: bool,
    /// For new folders: the look after this one.
    then: Option<Duration>,
}

/// What is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub paths: Vec<PathBuf>,
    /// Those of `paths` that their writer has closed.
    pub closed: HashSet<PathBuf>,
    /// Look at everything instead.
    pub rescan: bool,
}

impl Pending {
    /// Takes a hint about a path relative to the root.
    pub fn add(&mut self, hint: Hint, now: Instant, config: &SourceConfig) {
        match hint {
            Hint::Closed(path) => self.set(path, now + config.gather, true, None),
            // What arrives under its final name was complete before.
            Hint::Moved(path) => self.set(path, now + config.gather, SEES_CLOSE, None),
            Hint::Written(path) => {
                let quiet = if SEES_CLOSE { config.open_settle } else { config.settle };
                self.set(path, now + quiet, false, None);
            }
            Hint::Touched(path) => self.later(path, now + config.settle),
            Hint::Folder(path) => {
                let [first, second] = NEW_FOLDER_LOOKS;
                self.set(path, now + first, false, Some(second));
            }
            Hint::Rules => self.rescan(now + RULES_SETTLE),
            Hint::Rescan | Hint::Blind(_) => self.rescan(now),
        }
        if self.waits.len() > MAX_PENDING_PATHS {
            self.waits.clear();
            self.order.clear();
            self.rescan(now + config.settle);
        }
    }

    /// Looks at a path again later, unless it waits already.
    pub fn later(&mut self, path: PathBuf, due: Instant) {
        if !self.waits.contains_key(&path) {
            self.set(path, due, false, None);
        }
    }

    /// Looks at everything, at `due` or sooner.
    pub fn rescan(&mut self, due: Instant) {
        self.rescan_at = Some(self.rescan_at.map_or(due, |at| at.min(due)));
    }

    fn set(&mut self, path: PathBuf, due: Instant, closed: bool, then: Option<Duration>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.order.insert((due, ticket), path.clone());
        if let Some(old) = self.waits.insert(path, Wait { due, ticket, closed, then }) {
            self.order.remove(&(old.due, old.ticket));
        }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        let path = self.order.first_key_value().map(|((due, _), _)| *due);
        path.into_iter().chain(self.rescan_at).min()
    }

    /// Takes what is due.
    pub fn take_due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        if self.rescan_at.is_some_and(|at| at <= now) {
            self.rescan_at = None;
            due.rescan = true;
        }
        while let Some(first) = self.order.first_entry().filter(|first| first.key().0 <= now) {
            let path = first.remove();
            let wait = self.waits.remove(&path);
            if wait.is_some_and(|wait| wait.closed) {
                due.closed.insert(path.clone());
            }
            due.paths.push(path);
            if let Some((path, then)) = due.paths.last().zip(wait.and_then(|wait| wait.then)) {
                let path = path.clone();
                self.later(path, now + then);
            }
        }
        due
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use notify::Event;
    use notify::event::{DataChange, Flag, RemoveKind, RenameMode};

    use super::*;

    fn one(kind: EventKind, path: &str) -> Vec<Hint> {
        hints(Event::new(kind).add_path(path.into()))
    }

    #[test]
    fn events_become_hints() {
        let path = || PathBuf::from("a");
        let close = |mode| EventKind::Access(AccessKind::Close(mode));
        assert_eq!(one(close(AccessMode::Write), "a"), [Hint::Closed(path())]);
        assert_eq!(one(close(AccessMode::Read), "a"), []);
        assert_eq!(one(EventKind::Access(AccessKind::Open(AccessMode::Any)), "a"), []);
        assert_eq!(one(EventKind::Create(CreateKind::Folder), "a"), [Hint::Folder(path())]);
        assert_eq!(one(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "a"), [Hint::Written(path())]);
        assert_eq!(one(EventKind::Modify(ModifyKind::Name(RenameMode::From)), "a"), [Hint::Moved(path())]);
        assert_eq!(one(EventKind::Remove(RemoveKind::File), "a"), [Hint::Moved(path())]);
        assert_eq!(one(close(AccessMode::Write), "sub/.gitignore"), [Hint::Rules]);
        assert_eq!(hints(Event::new(EventKind::Other).set_flag(Flag::Rescan)), [Hint::Rescan]);
        assert_eq!(hints(Event::new(EventKind::Any)), [Hint::Rescan]);
    }

    #[test]
    fn a_limit_of_the_system_is_named_with_what_to_raise() {
        let reason = explain(&notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        assert!(reason.contains("fs.inotify.max_user_watches"), "{reason}");
    }

    #[test]
    fn a_path_waits_once_and_its_last_hint_counts() {
        let (config, now) = (SourceConfig::default(), Instant::now());
        let mut pending = Pending::default();
        pending.add(Hint::Written("a".into()), now, &config);
        pending.later("a".into(), now);
        assert!(pending.take_due(now + config.gather).paths.is_empty());
        pending.add(Hint::Closed("a".into()), now, &config);
        pending.add(Hint::Touched("a".into()), now, &config);
        let due = pending.take_due(now + config.gather);
        assert_eq!((due.paths.len(), due.closed.len()), (1, 1));
        assert!(pending.next_due().is_none());
    }

    #[test]
    fn a_new_folder_is_looked_into_twice() {
        let (config, now) = (SourceConfig::default(), Instant::now());
        let mut pending = Pending::default();
        pending.add(Hint::Folder("sub".into()), now, &config);
        assert_eq!(pending.take_due(now + Duration::from_millis(60)).paths.len(), 1);
        assert_eq!(pending.take_due(now + Duration::from_secs(2)).paths.len(), 1);
        assert!(pending.next_due().is_none());
    }

    #[test]
    fn a_flood_becomes_one_scan() {
        let (config, now) = (SourceConfig::default(), Instant::now());
        let mut pending = Pending::default();
        for i in 0..=MAX_PENDING_PATHS {
            pending.add(Hint::Closed(format!("{i}").into()), now, &config);
        }
        assert!(pending.take_due(now + config.settle).rescan);
        assert!(pending.next_due().is_none());
    }
}
