use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::cli::observing::map::chart::Symbols;
use crate::cli::observing::status::{busy, tier_name, tier_node};
use crate::control::protocol::{FileMap, Request, TreePath};
use crate::control::status::{OpenFile, Origin, Process, Status, Tier, TierNode};
use feed::Seen;

const PLAIN: Look = Look {
    has_colours: false,
    symbols: Symbols::UNICODE,
};

fn path(name: &str) -> TreePath {
    TreePath::new(name.into()).unwrap()
}

fn open(name: &str, read_bytes: u64) -> OpenFile {
    OpenFile {
        path: Some(path(name)),
        url: format!("https://example.org/{name}"),
        size: 100 << 20,
        cached_bytes: 25 << 20,
        position: 12 << 20,
        read_bytes,
        is_passthrough: false,
        process: Some(Process {
            pid: 4711,
            name: "mpv".into(),
        }),
    }
}

fn seen_with(files: Vec<OpenFile>) -> Seen {
    let map = |file: &OpenFile| FileMap {
        path: file.path.clone().unwrap(),
        url: file.url.clone(),
        size: file.size,
        chunk_size: 1 << 20,
        cached: std::iter::once(0..25 << 20).collect(),
        in_flight: std::iter::once(25 << 20..35 << 20).collect(),
        wanted: std::iter::once(25 << 20..50 << 20).collect(),
        waiting: Vec::new(),
    };
    Seen {
        at: std::time::Instant::now(),
        maps: files.iter().map(map).collect(),
        status: Status {
            open_file_count: files.len() as u64,
            open_files: files,
            ..busy()
        },
    }
}

fn app_with(files: Vec<OpenFile>) -> App {
    let mut app = App::new("/mnt/pub".to_owned());
    app.take(Update::Seen(Box::new(seen_with(files))));
    app.rates = (0..200).map(|at| (at % 50) << 20).collect();
    app
}

fn two_files() -> App {
    let long = format!("series/{}/part one.mkv", "a long name ".repeat(9));
    app_with(vec![open("films/a film.mkv", 1), open(&long, 2)])
}

#[test]
fn frame_fits_a_common_terminal() {
    insta::assert_snapshot!(text_of(&two_files(), PLAIN, 80, 24));
}

#[test]
fn frame_fits_a_small_terminal() {
    insta::assert_snapshot!(text_of(&two_files(), PLAIN, 60, 20));
}

#[test]
fn frame_in_ascii_has_nothing_else() {
    let look = Look {
        symbols: Symbols::ASCII,
        ..PLAIN
    };
    let text = text_of(&two_files(), look, 80, 24);
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn any_size_of_terminal_is_no_trouble() {
    let many = (0..40).map(|number| open(&format!("f{number}"), number)).collect();
    let mut app = app_with(many);
    app.chosen = 39;
    for (columns, rows) in [(1, 1), (10, 5), (20, 10), (60, 20), (300, 100)] {
        let text = text_of(&app, PLAIN, columns, rows);
        assert_eq!(text.lines().count(), usize::from(rows));
    }
    assert!(
        text_of(&app, PLAIN, 80, 24).contains("f39 "),
        "the chosen file is shown"
    );
}

fn press(app: &mut App, code: KeyCode) -> After {
    app.press(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn keys_choose_sort_and_ask() {
    let mut app = app_with(vec![open("b", 1), open("a", 2)]);
    let first = |app: &App| app.files()[0].path.clone().unwrap();
    assert_eq!(first(&app), path("b"));
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(first(&app), path("a"));
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    let pinned = press(&mut app, KeyCode::Char('p'));
    let paths = vec![path("b")];
    assert_eq!(pinned, After::Ask(Request::Pin { paths, fetch: true }));
    press(&mut app, KeyCode::Up);
    let evicted = press(&mut app, KeyCode::Char('e'));
    assert!(matches!(evicted, After::Ask(Request::Evict { paths, .. }) if paths == [path("a")]));
    for code in [
        KeyCode::Char('l'),
        KeyCode::Char('2'),
        KeyCode::Char('q'),
        KeyCode::Backspace,
        KeyCode::Char('M'),
    ] {
        assert_eq!(press(&mut app, code), After::Nothing);
    }
    assert!(text_of(&app, PLAIN, 80, 24).contains("): 2M_"));
    let assignments = vec!["bwlimit=2M".to_owned()];
    assert_eq!(
        press(&mut app, KeyCode::Enter),
        After::Ask(Request::SetOptions { assignments })
    );
    assert_eq!(press(&mut app, KeyCode::Char('q')), After::Quit);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.press(control), After::Quit);
}

#[test]
fn silence_and_recovery_of_the_mount_are_said() {
    let mut app = two_files();
    app.take(Update::Silent("the mount has ended".to_owned()));
    assert!(text_of(&app, PLAIN, 80, 24).contains("NO ANSWER: the mount has ended"));
    app.take(Update::Seen(Box::new(seen_with(Vec::new()))));
    let text = text_of(&app, PLAIN, 80, 24);
    assert!(!text.contains("NO ANSWER") && text.contains("none"), "{text}");
}

#[test]
fn failures_and_servers_become_events_once() {
    let mut app = two_files();
    let before = app.events.len();
    app.take(Update::Seen(Box::new(seen_with(Vec::new()))));
    assert_eq!(app.events.len(), before, "nothing is new");
    let mut seen = seen_with(Vec::new());
    seen.status.down.clear();
    seen.status.failures[0].count += 1;
    app.take(Update::Seen(Box::new(seen)));
    let what: Vec<_> = app.events.iter().take(2).map(|event| event.what.as_str()).collect();
    assert_eq!(what[0], "https://mirror.example.org:443 responds again");
    assert!(what[1].contains("(4 times)"), "{what:?}");
}

#[test]
fn tier_shows_its_nodes() {
    let node = |url: &str, unused: Option<&str>| TierNode {
        hedged_requests: 2,
        failed_requests: u64::from(unused.is_some()),
        ..tier_node(url, unused)
    };
    let mut seen = seen_with(vec![open("films/a film.mkv", 1)]);
    // It is not among the servers.
    seen.status.origins.push(Origin {
        origin: "http://10.0.0.5:8080".into(),
        is_tier_node: true,
        ..Origin::default()
    });
    seen.status.tier = Some(Tier {
        nodes: vec![
            node("http://10.0.0.5:8080", None),
            node("http://10.0.0.6:8080", Some("it does not answer")),
        ],
        names: vec![
            tier_name("dns:tier.example.org", 2, None),
            tier_name("dns:a", 0, Some("DNS has no such name")),
        ],
        received_bytes: 2 << 30,
        other_received_bytes: 3 << 20,
    });
    let mut app = two_files();
    app.take(Update::Seen(Box::new(seen)));
    app.rates.clear();
    insta::assert_snapshot!(text_of(&app, PLAIN, 80, 24));
}
