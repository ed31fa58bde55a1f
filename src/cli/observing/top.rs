//! `fetchfs top`: what a mount is doing, live, on the whole screen.
//!
//! [`feed`] asks the mount's control socket once a second, on a thread of its own; [`app`] keeps what was seen and what the
//! keys do; [`draw`] turns it into a frame; [`screen`] has the terminal and gives it back, whatever happens.

mod app;
mod draw;
mod feed;
mod screen;

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::bail;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::cli::support::{output, targets};
use app::{After, App};
use draw::Look;
use feed::{Feed, Update};
use screen::Screen;

/// How long a key or news may take until they show.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The size of a frame that is printed, if there is no terminal.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// Show what a mount is doing, live, on the whole screen
///
/// How fast it fetches, the open files with the parts of them that are cached, in flight and wanted, who reads them, the
/// servers, and what went wrong. Keys: q quits, the arrows choose a file, s sorts, p pins, e evicts and f prefetches the
/// chosen file, l changes the rate limit.
#[derive(Args)]
struct TopArgs {
    /// The mount; may be left out if there is only one
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: Option<PathBuf>,

    /// Print one frame as text
    #[arg(long)]
    once: bool,
}

pub(in crate::cli) fn command() -> Command {
    TopArgs::augment_args(Command::new("top"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = TopArgs::from_arg_matches(matches)?;
    let mount = targets::the_mount(&args.mountpoint.into_iter().collect::<Vec<_>>())?;
    let look = Look::of_environment();
    if args.once {
        let mut app = App::new(mount.mountpoint.display().to_string());
        app.take(Update::Seen(Box::new(feed::look(&mount, false)?)));
        return output::write(frame(&app, look));
    }
    if !stdout().is_terminal() {
        bail!("standard output is not a terminal; `fetchfs top --once` prints one frame");
    }
    let mut app = App::new(mount.mountpoint.display().to_string());
    let (feed, updates) = Feed::start(mount);
    let mut screen = Screen::enter()?;
    watch(&mut screen, &mut app, &feed, &updates, look)
}

/// Shows and obeys, until the user has had enough.
fn watch(
    screen: &mut Screen,
    app: &mut App,
    feed: &Feed,
    updates: &Receiver<Update>,
    look: Look,
) -> anyhow::Result<()> {
    loop {
        updates.try_iter().for_each(|update| app.take(update));
        screen.terminal().draw(|frame| draw::draw(frame, app, look))?;
        if screen.is_over() {
            return Ok(());
        }
        if !event::poll(LOOK_EVERY)? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match app.press(key) {
                After::Nothing => {}
                After::Ask(request) => feed.ask(request),
                After::Quit => return Ok(()),
            }
        }
    }
}

/// One frame as text, as wide as the terminal.
fn frame(app: &App, look: Look) -> String {
    let columns = terminal_size::terminal_size()
        .filter(|_| stdout().is_terminal())
        .map_or(COLUMNS, |(width, _)| width.0);
    text_of(app, look, columns, ROWS)
}

/// A frame of this size as lines of text.
fn text_of(app: &App, look: Look, columns: u16, rows: u16) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, rows));
    let Ok(_) = terminal.draw(|frame| draw::draw(frame, app, look));
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(columns)).map(|row| {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[cfg(test)]
mod tests;
