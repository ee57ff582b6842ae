//! Progress of long work: a bar on a terminal, elsewhere a plain line every ten seconds.

use std::{
    future::Future,
    sync::LazyLock,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{is_animated, page::clean};

/// How often progress is told where nothing can be animated.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How long a command may be silent.
const SILENCE_MAX: Duration = Duration::from_millis(100);

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// All bars, so that lines can be written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let target = if is_animated() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    MultiProgress::with_draw_target(target)
});

/// Writes to stderr without tearing a bar.
pub(crate) fn above<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// How far something has come.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    told_at: Instant,
}

impl Progress {
    pub(crate) fn start(message: &str) -> Self {
        let bar = BARS.add(ProgressBar::no_length());
        bar.set_style(style("{spinner} {msg} {elapsed}"));
        bar.set_message(clean(message));
        if is_animated() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, told_at: Instant::now() }
    }

    /// Tells how far it is; `total` where that is known.
    pub(crate) fn update(&mut self, done: u64, total: Option<u64>, message: &str) {
        if let Some(total) = total.filter(|total| self.bar.length() != Some(*total)) {
            self.bar.set_style(style("{spinner} {msg} [{bar:30}] {pos}/{len} {elapsed}"));
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        self.bar.set_message(clean(message));
        if !is_animated() && self.told_at.elapsed() >= LINE_EVERY {
            self.told_at = Instant::now();
            let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
            eprintln!("{} ({done}{of}, {}s)", clean(message), self.bar.elapsed().as_secs());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        BARS.remove(&self.bar);
    }
}

/// Shows a spinner while the work takes longer than a person waits without wondering.
pub(crate) async fn with_spinner<T>(message: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = tokio::time::sleep(SILENCE_MAX) => {}
    }
    let _shown = Progress::start(message);
    work.await
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are written here and used by every command")
}
