//! What was seen so far, what is chosen, and what keys do. Knows no terminal.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::{Seen, Update};
use crate::control::protocol::{FileMap, Request, TreePath, Wanted};
use crate::control::status::{OpenFile, SeenFailure};

/// Seconds of the history of the rate: more than a wide terminal shows.
const HISTORY: usize = 512;

/// Most events that are kept.
const MOST_EVENTS: usize = 64;

/// How long the outcome of a key is shown.
const SHOWN_FOR: Duration = Duration::from_secs(8);

/// The order of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// As they were opened.
    Opened,
    /// By path.
    Name,
    /// The one of which most was read first.
    Read,
}

impl Sort {
    fn next(self) -> Sort {
        match self {
            Sort::Opened => Sort::Name,
            Sort::Name => Sort::Read,
            Sort::Read => Sort::Opened,
        }
    }

    /// What the heading says.
    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Opened => "as opened",
            Sort::Name => "by name",
            Sort::Read => "most read first",
        }
    }
}

/// What follows from a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Ask(Request),
    Quit,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Happened {
    /// Seconds since 1970.
    pub(super) at: u64,
    pub(super) what: String,
}

/// The state of the screen.
pub(super) struct App {
    pub(super) mountpoint: String,
    pub(super) seen: Option<Seen>,
    /// Bytes a second that were fetched, the last one last.
    pub(super) rates: VecDeque<u64>,
    pub(super) sort: Sort,
    /// The number of the chosen file, in the order that is shown.
    pub(super) chosen: usize,
    /// The last one first.
    pub(super) events: VecDeque<Happened>,
    /// Why the mount does not answer, if it does not.
    pub(super) silent: Option<String>,
    /// What became of the last key, and when.
    message: Option<(Instant, String)>,
    /// The rate limit that is being typed.
    pub(super) typed: Option<String>,
    down: BTreeSet<String>,
}

impl App {
    pub(super) fn new(mountpoint: String) -> App {
        App {
            mountpoint,
            seen: None,
            rates: VecDeque::new(),
            sort: Sort::Opened,
            chosen: 0,
            events: VecDeque::new(),
            silent: None,
            message: None,
            typed: None,
            down: BTreeSet::new(),
        }
    }

    /// Takes news.
    pub(super) fn take(&mut self, update: Update) {
        match update {
            Update::Seen(seen) => self.see(*seen),
            Update::Silent(why) => self.silent = Some(why),
            Update::Done(what) => self.say(what),
        }
    }

    fn say(&mut self, what: String) {
        self.message = Some((Instant::now(), what));
    }

    /// What became of the last key.
    pub(super) fn message(&self) -> Option<&str> {
        let (at, what) = self.message.as_ref()?;
        (at.elapsed() < SHOWN_FOR).then_some(what)
    }

    fn see(&mut self, seen: Seen) {
        self.silent = None;
        let measured = match &self.seen {
            Some(before) => {
                let time = seen.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
                let (now, then) = (seen.status.totals.fetched_bytes, before.status.totals.fetched_bytes);
                Some((now.saturating_sub(then) as f64 / time) as u64)
            }
            None => seen.status.fetching_rate,
        };
        self.rates.extend(measured);
        while self.rates.len() > HISTORY {
            self.rates.pop_front();
        }
        self.note_events(&seen);
        self.seen = Some(seen);
        self.chosen = self.chosen.min(self.files().len().saturating_sub(1));
    }

    fn note_events(&mut self, seen: &Seen) {
        let status = &seen.status;
        let now = status.mounted_at + status.mounted_for;
        let known = self
            .seen
            .as_ref()
            .map(|seen| seen.status.failures.clone())
            .unwrap_or_default();
        let is_news = |failure: &&SeenFailure| !known.contains(failure);
        // The last one is first, and events are added in the order in which they happened.
        let news: Vec<_> = status.failures.iter().filter(is_news).rev().cloned().collect();
        for failure in news {
            let times = match failure.count {
                1 => String::new(),
                count => format!(" ({count} times)"),
            };
            let what = format!("{}{times}: {}: {}", failure.errno, failure.url, failure.reason);
            self.happened(failure.last, what);
        }
        let down: BTreeSet<String> = status.down.iter().map(|down| down.origin.clone()).collect();
        for server in &status.down {
            if !self.down.contains(&server.origin) {
                let what = format!("{} is down: {}", server.origin, server.reason);
                self.happened(now.saturating_sub(server.seconds), what);
            }
        }
        for origin in self.down.difference(&down).cloned().collect::<Vec<_>>() {
            self.happened(now, format!("{origin} responds again"));
        }
        self.down = down;
    }

    fn happened(&mut self, at: u64, what: String) {
        self.events.push_front(Happened { at, what });
        self.events.truncate(MOST_EVENTS);
    }

    /// The open files in the order that is shown.
    pub(super) fn files(&self) -> Vec<&OpenFile> {
        let open = self.seen.as_ref().map(|seen| &seen.status.open_files);
        let mut files: Vec<&OpenFile> = open.into_iter().flatten().collect();
        match self.sort {
            Sort::Opened => {}
            Sort::Name => files.sort_by(|one, other| (&one.path, &one.url).cmp(&(&other.path, &other.url))),
            Sort::Read => files.sort_by_key(|file| std::cmp::Reverse(file.read_bytes)),
        }
        files
    }

    /// The map of an open file.
    pub(super) fn map_of(&self, file: &OpenFile) -> Option<&FileMap> {
        let path = file.path.as_ref()?;
        self.seen.as_ref()?.maps.iter().find(|map| map.path == *path)
    }

    fn chosen_path(&self) -> Option<TreePath> {
        self.files().get(self.chosen)?.path.clone()
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> After {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => After::Quit,
                _ => After::Nothing,
            };
        }
        if self.typed.is_some() {
            return self.type_in(key.code);
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return After::Quit,
            KeyCode::Down | KeyCode::Char('j') => {
                self.chosen = (self.chosen + 1).min(self.files().len().saturating_sub(1));
            }
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('l') => self.typed = Some(String::new()),
            KeyCode::Char(letter @ ('p' | 'e' | 'f')) => match self.chosen_path() {
                Some(path) => return After::Ask(request(letter, path)),
                None => self.say("no file is open".to_owned()),
            },
            _ => {}
        }
        After::Nothing
    }

    fn type_in(&mut self, code: KeyCode) -> After {
        let typed = self.typed.get_or_insert_default();
        match code {
            KeyCode::Char(letter) => typed.push(letter),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Esc => self.typed = None,
            KeyCode::Enter => {
                let rate = self.typed.take().unwrap_or_default();
                if !rate.is_empty() {
                    let assignments = vec![format!("bwlimit={rate}")];
                    return After::Ask(Request::SetOptions { assignments });
                }
            }
            _ => {}
        }
        After::Nothing
    }
}

fn request(letter: char, path: TreePath) -> Request {
    let paths = vec![path];
    match letter {
        'p' => Request::Pin { paths, fetch: true },
        'e' => Request::Evict {
            paths,
            recursive: false,
            force: false,
        },
        _ => Request::PrefetchInBackground {
            wanted: Wanted {
                paths,
                ranges: Vec::new(),
                recursive: false,
            },
        },
    }
}
