//! Progress of a prefetch: a bar on a terminal, otherwise a line now and then.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use terminal_size::{Width, terminal_size_of};

use super::output;
use crate::control::protocol::Progress;

/// Window over which the rate is measured: long enough to be steady, short enough to follow changes.
const WINDOW: Duration = Duration::from_secs(5);

/// Interval of progress lines without a terminal.
const LINES: Duration = Duration::from_secs(5);

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// Columns of the shortest bar that is worth its room, with the space after it.
const LEAST_BAR: usize = 10;

/// Computes the rate and the time left.
pub(in crate::cli) struct Meter {
    began: Instant,
    /// Bytes fetched at each time, the oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    pub(in crate::cli) fn new(now: Instant) -> Meter {
        Meter {
            began: now,
            samples: VecDeque::from([(now, 0)]),
        }
    }

    /// Notes the progress at a time.
    pub(in crate::cli) fn note(&mut self, now: Instant, fetched: u64) {
        self.samples.push_back((now, fetched));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
    }

    /// Rate in bytes per second.
    pub(in crate::cli) fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let time = last.0.duration_since(first.0).as_secs_f64();
        if time > 0.0 {
            last.1.saturating_sub(first.1) as f64 / time
        } else {
            0.0
        }
    }

    /// Estimated time until everything is fetched, if there is a basis for it.
    pub(in crate::cli) fn time_left(&self, progress: &Progress) -> Option<Duration> {
        let left = progress
            .bytes
            .saturating_sub(progress.bytes_had + progress.bytes_fetched);
        let rate = self.rate();
        if progress.is_searching || rate < 1.0 {
            return None;
        }
        // Rounded to whole seconds: the estimate is not more exact.
        Some(Duration::from_secs((left as f64 / rate).ceil().min(1e9) as u64))
    }

    /// One line for people.
    pub(in crate::cli) fn text(&self, progress: &Progress) -> String {
        let mut text = format!("{}, {}/s", so_far(progress), ByteSize(self.rate() as u64));
        if let Some(left) = self.time_left(progress) {
            text.push_str(&format!(", {} left", humantime::format_duration(left)));
        }
        if progress.failed > 0 {
            text.push_str(&format!(", {} failed", progress.failed));
        }
        text
    }

    /// The text of [`Self::text`], with less in it if a terminal has fewer columns.
    fn text_within(&self, progress: &Progress, columns: usize) -> String {
        let text = self.text(progress);
        if text.chars().count() <= columns {
            return text;
        }
        let left = self
            .time_left(progress)
            .map(|left| format!(", {} left", humantime::format_duration(left)));
        bytes_so_far(progress) + &left.unwrap_or_default()
    }

    /// The line for the end of a prefetch.
    pub(in crate::cli) fn summary(&self, now: Instant, progress: &Progress) -> String {
        let time = Duration::from_millis(now.duration_since(self.began).as_millis() as u64);
        let mut text = format!(
            "{}: {} fetched in {}",
            output::count(progress.files, "file"),
            ByteSize(progress.bytes_fetched),
            humantime::format_duration(time)
        );
        if progress.bytes_had > 0 {
            text.push_str(&format!(", {} were in the cache already", ByteSize(progress.bytes_had)));
        }
        if progress.left_out > 0 {
            let directories = output::count(progress.left_out, "directory");
            text.push_str(&format!("; {directories} skipped (use --recursive)"));
        }
        text
    }
}

/// Files and bytes, done and found.
pub(in crate::cli) fn so_far(progress: &Progress) -> String {
    let more = if progress.is_searching { " so far" } else { "" };
    format!(
        "{} of {}, {}{more}",
        progress.files_done,
        output::count(progress.files, "file"),
        bytes_so_far(progress)
    )
}

fn bytes_so_far(progress: &Progress) -> String {
    let done = ByteSize(progress.bytes_had + progress.bytes_fetched);
    format!("{done} of {}", ByteSize(progress.bytes))
}

/// Shows progress on standard error, because results go to standard output.
pub(in crate::cli) struct Display {
    meter: Meter,
    /// The bar, if standard error is a terminal.
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Display {
    pub(in crate::cli) fn new() -> Display {
        let now = Instant::now();
        Display {
            meter: Meter::new(now),
            bar: std::io::stderr().is_terminal().then(new_bar),
            said: now,
        }
    }

    pub(in crate::cli) fn show(&mut self, progress: &Progress) {
        let now = Instant::now();
        self.meter.note(now, progress.bytes_fetched);
        match &self.bar {
            Some(bar) => {
                bar.set_length(progress.bytes);
                bar.set_position(progress.bytes_had + progress.bytes_fetched);
                let columns = terminal_size_of(stderr()).map_or(COLUMNS, |(Width(columns), _)| columns.into());
                let text = self.meter.text_within(progress, columns);
                // Too narrow for a bar beside the text; a line that wrapped would stay when the next one is drawn.
                let has_room = text.chars().count() + LEAST_BAR <= columns;
                bar.set_style(style(if has_room { "{wide_bar} {msg}" } else { "{wide_msg}" }));
                bar.set_message(text);
            }
            None if now.duration_since(self.said) >= LINES => {
                self.said = now;
                // A closed standard error does not matter.
                let _ = writeln!(std::io::stderr(), "{}", self.meter.text(progress));
            }
            None => {}
        }
    }

    /// Removes the bar before the end. Returns what was done.
    pub(in crate::cli) fn clear(&self, progress: &Progress) -> String {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        so_far(progress)
    }

    /// Removes the bar. Returns the line for the end.
    pub(in crate::cli) fn finish(self, progress: &Progress) -> String {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.meter.summary(Instant::now(), progress)
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(style("{wide_msg}"));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a constant template")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_what_was_fetched_lately() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(start);
        assert_eq!(meter.rate(), 0.0);
        (1..=20).for_each(|second| meter.note(at(second), second * 100));
        assert_eq!(meter.rate(), 100.0);
        (21..=30).for_each(|second| meter.note(at(second), 2000));
        assert_eq!(meter.rate(), 0.0, "it has stood still for longer than the window");
    }

    #[test]
    fn cached_bytes_shorten_the_eta_but_not_the_rate() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let progress = Progress {
            files: 3,
            files_done: 1,
            bytes: 10_000_000,
            bytes_had: 4_000_000,
            bytes_fetched: 1_000_000,
            ..Progress::default()
        };
        meter.note(start + Duration::from_secs(2), progress.bytes_fetched);
        assert_eq!(meter.time_left(&progress), Some(Duration::from_secs(10)));
        insta::assert_snapshot!(meter.text(&progress), @"1 of 3 files, 4.8 MiB of 9.5 MiB, 488.3 KiB/s, 10s left");
        let within = |columns| meter.text_within(&progress, columns);
        insta::assert_snapshot!(within(80), @"1 of 3 files, 4.8 MiB of 9.5 MiB, 488.3 KiB/s, 10s left");
        insta::assert_snapshot!(within(40), @"4.8 MiB of 9.5 MiB, 10s left");
        let searching = Progress {
            is_searching: true,
            failed: 2,
            ..progress
        };
        insta::assert_snapshot!(meter.text(&searching), @"1 of 3 files, 4.8 MiB of 9.5 MiB so far, 488.3 KiB/s, 2 failed");
        insta::assert_snapshot!(meter.summary(start + Duration::from_millis(2500), &progress), @"3 files: 976.6 KiB fetched in 2s 500ms, 3.8 MiB were in the cache already");
        let flat = Progress {
            files: 1,
            left_out: 2,
            ..Progress::default()
        };
        insta::assert_snapshot!(meter.summary(start + Duration::from_secs(1), &flat), @"1 file: 0 B fetched in 1s; 2 directories skipped (use --recursive)");
    }
}
