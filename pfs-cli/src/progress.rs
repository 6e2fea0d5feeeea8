//! Progress on standard error: a line that is redrawn on a terminal; elsewhere, a new line every
//! 2 seconds.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    age::span,
    printer::Printer,
    size::{rate, size},
    terminal,
};

/// How often the line on a terminal is redrawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is printed if standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// Progress that was not asked for is shown only in runs longer than this.
const MIN_RUN_TIME: Duration = Duration::from_secs(1);
/// Time constant of the smoothed rate.
const SMOOTHING_SECONDS: f64 = 2.0;

/// Counters of a run. A separate thread draws them, so that counting costs next to nothing, and the
/// display goes on while the run waits for its output.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes that are done: appended or delivered.
    pub(crate) bytes: AtomicU64,
    /// Bytes that were lost.
    pub(crate) lost: AtomicU64,
    /// Offset of the reader; for a writer, the acknowledged bytes.
    pub(crate) position: AtomicU64,
    /// Offset of the live edge; for a writer, the sent bytes.
    pub(crate) head: AtomicU64,
}

/// Selects the numbers that the line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Shows lag and losses.
    Reader,
    /// Shows the unacknowledged bytes.
    Writer,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not at all.
    Hidden,
    /// A line that is redrawn, after this much time has passed. Zero means that `--progress` was
    /// given: then it is drawn also in the background.
    Bar(Duration),
    /// A new line every [`LINE_INTERVAL`].
    Lines,
}

impl Style {
    /// Chooses a bar if it was asked for, or if the terminal has no other output. `shared` means
    /// that another output may be on the terminal.
    pub(crate) fn choose(asked: bool, quiet: bool, shared: bool) -> Self {
        Self::choose_for(terminal::is_drawable(&io::stderr()), asked, quiet, shared)
    }

    fn choose_for(terminal: bool, asked: bool, quiet: bool, shared: bool) -> Self {
        match (terminal, asked) {
            (true, true) => Self::Bar(Duration::ZERO),
            (false, true) => Self::Lines,
            (true, false) if !quiet && !shared => Self::Bar(MIN_RUN_TIME),
            _ => Self::Hidden,
        }
    }
}

/// Shows the counters until it is dropped. The last state stays on the terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    counters: Arc<Counters>,
    drawer: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts the thread that draws, unless the style is hidden.
    pub(crate) fn start(printer: &Printer, style: Style, role: Role) -> Self {
        let counters = Arc::new(Counters::default());
        if style == Style::Hidden {
            return Self { counters, drawer: None };
        }
        let (stop, stopped) = mpsc::channel();
        let (shared, printer) = (Arc::clone(&counters), printer.clone());
        // Without a thread, the run continues without progress.
        let drawer = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || draw(&printer, style, role, &shared, &stopped))
            .ok();
        Self { counters, drawer: drawer.map(|drawer| (stop, drawer)) }
    }

    /// Returns true if progress is shown. Only then is it worth asking the daemon for numbers.
    pub(crate) fn is_shown(&self) -> bool {
        self.drawer.is_some()
    }

    /// The counters to update.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, drawer)) = self.drawer.take() {
            drop(stop);
            let _ = drawer.join();
        }
    }
}

fn draw(
    printer: &Printer,
    style: Style,
    role: Role,
    counters: &Counters,
    stopped: &mpsc::Receiver<()>,
) {
    let started = Instant::now();
    let mut meter = Meter::default();
    let (every, patience) = match style {
        Style::Bar(patience) => (REDRAW_INTERVAL, patience),
        _ => (LINE_INTERVAL, Duration::ZERO),
    };
    let mut bar = None;
    loop {
        let more = matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout));
        let elapsed = started.elapsed();
        let bytes = counters.bytes.load(Relaxed);
        meter.update(bytes, elapsed);
        let stats = Stats {
            bytes,
            rate: if more { meter.rate() } else { Meter::average(bytes, elapsed) },
            elapsed,
            lag: counters.head.load(Relaxed).saturating_sub(counters.position.load(Relaxed)),
            lost: counters.lost.load(Relaxed),
        };
        let line = stats.line(role);
        match style {
            // Progress was not asked for, and another program now has the terminal.
            Style::Bar(_) if !patience.is_zero() && terminal::is_in_background() => {}
            Style::Bar(_) if elapsed >= patience => {
                let bar = bar.get_or_insert_with(|| printer.bars().add(new_bar()));
                bar.set_message(line);
                bar.tick();
                if !more {
                    bar.abandon();
                }
            }
            Style::Lines => printer.progress(line),
            _ => {}
        }
        if !more {
            return;
        }
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

/// The numbers of one line.
#[derive(Clone, Copy, Debug)]
struct Stats {
    bytes: u64,
    rate: u64,
    elapsed: Duration,
    lag: u64,
    lost: u64,
}

impl Stats {
    fn line(self, role: Role) -> String {
        let Self { bytes, rate: speed, elapsed, lag, lost } = self;
        // Whole seconds: milliseconds would be of no use beside a rate.
        let done = format!(
            "{}  {}  {}",
            size(bytes),
            rate(speed),
            span(Duration::from_secs(elapsed.as_secs()))
        );
        match role {
            Role::Reader => format!("{done}  lag {}  lost {}", size(lag), size(lost)),
            Role::Writer => format!("{done}  unacknowledged {}", size(lag)),
        }
    }
}

/// Exponentially smoothed rate.
#[derive(Debug, Default)]
struct Meter {
    bytes: u64,
    at: Duration,
    rate: f64,
}

impl Meter {
    fn update(&mut self, bytes: u64, at: Duration) {
        let passed = at.saturating_sub(self.at).as_secs_f64();
        if passed > 0.0 {
            let now = bytes.saturating_sub(self.bytes) as f64 / passed;
            let weight =
                if self.at.is_zero() { 1.0 } else { 1.0 - (-passed / SMOOTHING_SECONDS).exp() };
            self.rate += weight * (now - self.rate);
            (self.bytes, self.at) = (bytes, at);
        }
    }

    fn rate(&self) -> u64 {
        self.rate as u64
    }

    fn average(bytes: u64, elapsed: Duration) -> u64 {
        (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unrequested_bar_needs_a_terminal_without_other_output() {
        assert_eq!(Style::choose_for(true, false, false, false), Style::Bar(MIN_RUN_TIME));
        assert_eq!(Style::choose_for(true, false, true, false), Style::Hidden);
        assert_eq!(Style::choose_for(true, false, false, true), Style::Hidden);
        assert_eq!(Style::choose_for(false, false, false, false), Style::Hidden);
    }

    #[test]
    fn requested_progress_is_always_shown() {
        assert_eq!(Style::choose_for(true, true, true, true), Style::Bar(Duration::ZERO));
        assert_eq!(Style::choose_for(false, true, true, true), Style::Lines);
    }

    #[test]
    fn a_progress_line_shows_bytes_rate_time_and_lag() {
        let stats = Stats {
            bytes: 3 * 1024 * 1024,
            rate: 1024 * 1024,
            elapsed: Duration::from_millis(3_900),
            lag: 512,
            lost: 7,
        };
        assert_eq!(stats.line(Role::Reader), "3.0 MiB  1.0 MiB/s  3s  lag 512 B  lost 7 B");
        assert_eq!(stats.line(Role::Writer), "3.0 MiB  1.0 MiB/s  3s  unacknowledged 512 B");
    }

    #[test]
    fn the_rate_follows_the_speed_of_the_last_seconds() {
        let mut meter = Meter::default();
        for second in 1..=5 {
            meter.update(second * 1000, Duration::from_secs(second));
        }
        assert_eq!(meter.rate(), 1000);
        for second in 6..=30 {
            meter.update(5000, Duration::from_secs(second));
        }
        assert!(meter.rate() < 10, "{}", meter.rate());
    }
}
