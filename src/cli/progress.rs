//! Progress of long work: a bar on a terminal, a line every few seconds elsewhere. Always on stderr.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two frames of the spinner.
const TICK: Duration = Duration::from_millis(120);

/// Work that goes on.
pub(super) struct Progress {
    shown: Shown,
    stage: String,
    unit: &'static str,
    done: u64,
    total: Option<u64>,
    started: Instant,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// Starts to show. `unit` is what is counted, in the plural.
    pub(super) fn new(stage: &str, unit: &'static str, total: Option<u64>) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            bar.set_style(style(total.is_some()));
            bar.set_message(stage.to_owned());
            bar.set_prefix(unit);
            bar.enable_steady_tick(TICK);
            Shown::Bar(bar)
        } else {
            Shown::Lines { last: Instant::now() }
        };
        Self { shown, stage: stage.to_owned(), unit, done: 0, total, started: Instant::now() }
    }

    /// How much there is to do, where that became known or changed.
    pub(super) fn set_total(&mut self, total: Option<u64>) {
        if self.total == total {
            return;
        }
        self.total = total;
        if let (Shown::Bar(bar), Some(total)) = (&self.shown, total) {
            bar.set_style(style(true));
            bar.set_length(total);
        }
    }

    /// How much is done.
    pub(super) fn set_done(&mut self, done: u64) {
        self.done = done;
        let line = match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(done);
                false
            }
            Shown::Lines { last } => {
                let due = last.elapsed() >= LINE_INTERVAL;
                if due {
                    *last = Instant::now();
                }
                due
            }
        };
        if line {
            eprintln!("{}", self.line());
        }
    }

    /// Tells something beside the bar.
    pub(super) fn note(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Shown::Lines { .. } => eprintln!("{text}"),
        }
    }

    fn line(&self) -> String {
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate = if elapsed > 0.0 { self.done as f64 / elapsed } else { 0.0 };
        let mut line = format!("progress stage={} {}={}", self.stage.replace(' ', "_"), self.unit, self.done);
        if let Some(total) = self.total {
            line.push_str(&format!(" total={total}"));
        }
        line.push_str(&format!(" rate={rate:.1}/s elapsed={elapsed:.0}s"));
        if let Some(total) = self.total.filter(|&total| rate > 0.0 && total > self.done) {
            line.push_str(&format!(" eta={:.0}s", (total - self.done) as f64 / rate));
        }
        line
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn style(with_total: bool) -> ProgressStyle {
    let template = if with_total {
        "{spinner} {msg} [{wide_bar}] {human_pos}/{human_len} {prefix}, {per_sec}, eta {eta}"
    } else {
        "{spinner} {msg}: {human_pos} {prefix}, {per_sec}, {elapsed}"
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_stage_count_rate_and_eta() {
        let started = Instant::now().checked_sub(Duration::from_secs(10)).unwrap_or_else(Instant::now);
        let progress = Progress {
            shown: Shown::Lines { last: started },
            stage: "asking queries".into(),
            unit: "queries",
            done: 50,
            total: Some(100),
            started,
        };
        let line = progress.line();
        assert!(line.starts_with("progress stage=asking_queries queries=50 total=100 rate="), "{line}");
        assert!(line.contains("/s elapsed=") && line.contains(" eta="), "{line}");
    }
}
