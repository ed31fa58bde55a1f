//! One frame: from what was seen to lines of the screen. Fits 60 columns and 20 rows, and uses more if there are more.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::app::App;
use crate::cli::observing::map::chart::{Chart, Symbols};
use crate::cli::observing::status::{name_line, node_figures};
use crate::cli::support::output::{self, count, size};
use crate::control::status::{OpenFile, Origin, Status, TierNode};
use crate::stats::Phase;

/// Rows of the history of the rate.
const HISTORY_ROWS: u16 = 3;

/// Rows of servers and of events, with their headings, at least.
const FEW_ROWS: u16 = 3;

/// Most rows of the DNS names and the nodes of a tier, with their heading.
const TIER_ROWS: u16 = 5;

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) has_colours: bool,
    pub(super) symbols: Symbols,
}

impl Look {
    /// Colours unless NO_COLOR is set (no-color.org), and the symbols of the locale.
    pub(super) fn of_environment() -> Look {
        let is_set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Look {
            has_colours: !is_set,
            symbols: Symbols::of_locale(),
        }
    }

    fn colour(self, colour: Color) -> Style {
        match self.has_colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, look: Look) {
    let Some(seen) = &app.seen else {
        let waiting = app.silent.as_deref().unwrap_or("asking the mount...");
        frame.render_widget(Paragraph::new(format!("{}: {waiting}", app.mountpoint)), frame.area());
        return;
    };
    let status = &seen.status;
    let servers = (status.servers().count() as u16 + 1).clamp(FEW_ROWS - 1, 6);
    let tier_rows = status
        .tier
        .as_ref()
        .map_or(0, |tier| (tier.names.len() + tier.nodes.len()) as u16 + 1)
        .min(TIER_ROWS);
    let [head, summary, history, files, origins, tier, events, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3 + u16::from(!status.programs.is_empty())),
        Constraint::Length(HISTORY_ROWS),
        Constraint::Fill(3),
        Constraint::Length(servers),
        Constraint::Length(tier_rows),
        Constraint::Fill(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, app, status, look);
    frame.render_widget(Paragraph::new(summary_of(status, summary.width)), summary);
    draw_history(frame, history, app, look);
    draw_files(frame, files, app, look);
    draw_origins(frame, origins, status, look);
    draw_tier(frame, tier, status, look);
    draw_events(frame, events, app, status, look);
    draw_foot(frame, foot, app);
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, app: &App, status: &Status, look: Look) {
    let since = humantime::format_duration(Duration::from_secs(status.mounted_for));
    let mut spans = vec![
        Span::styled(format!("fetchfs {}", app.mountpoint), bold()),
        Span::raw(format!("  pid {}, for {since}", status.pid)),
    ];
    if let Some(why) = &app.silent {
        let style = bold().patch(look.colour(Color::Red));
        spans = vec![Span::styled(format!("NO ANSWER: {why}"), style)];
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// Three lines on the mount as a whole, and one on the programs that have read.
fn summary_of(status: &Status, width: u16) -> Vec<Line<'static>> {
    let totals = &status.totals;
    let (reads, bytes) = (
        totals.hit_reads + totals.miss_reads,
        totals.hit_bytes + totals.miss_bytes,
    );
    let cache = format!(
        "cache {} of {} ({}), evicted {}",
        size(status.cached_bytes),
        size(status.cache_limit),
        percent(status.cached_bytes, status.cache_limit),
        size(totals.evicted_bytes)
    );
    let hits = match reads {
        0 => "no reads yet".to_owned(),
        _ => format!(
            "{} reads, without a wait {}, of bytes {}",
            reads,
            percent(totals.hit_reads, reads),
            percent(totals.hit_bytes, bytes)
        ),
    };
    let fetched = format!(
        "fetched {}, not read of it {}",
        size(totals.fetched_bytes),
        size(totals.over_fetched_bytes())
    );
    let parts: Vec<String> = status
        .waiting
        .reads
        .iter()
        .map(|(&phase, reads)| format!("{reads} {}", short(phase)))
        .collect();
    let waiting = match (parts.is_empty(), status.waiting.names) {
        (true, 0) => "nothing waits".to_owned(),
        (true, names) => format!("waiting: {}", count(names, "name")),
        (false, 0) => format!("waiting: {}", parts.join(", ")),
        (false, names) => format!("waiting: {}, {}", parts.join(", "), count(names, "name")),
    };
    // Two of them fit a wide line.
    let joined = format!("{hits}  |  {fetched}");
    let mut lines = if joined.chars().count() <= usize::from(width) {
        vec![cache, joined, waiting]
    } else {
        vec![hits, fetched, waiting]
    };
    if !status.programs.is_empty() {
        lines.push(programs_of(status, width));
    }
    lines.into_iter().map(Line::from).collect()
}

/// What was fetched for which program, as many as there is room for.
fn programs_of(status: &Status, width: u16) -> String {
    let mut line = "fetched for".to_owned();
    for (number, program) in status.programs.iter().enumerate() {
        let refused = match program.refused_reads {
            0 => String::new(),
            refused => format!(", {} refused", count(refused, "read")),
        };
        let scanner = match program.scanner {
            None => String::new(),
            Some(_) => format!(" (scanner{refused})"),
        };
        let name = program.name.as_deref().unwrap_or("others");
        let comma = if number == 0 { "" } else { "," };
        let next = format!("{comma} {name} {}{scanner}", size(program.fetched_bytes));
        if line.chars().count() + next.chars().count() > usize::from(width) {
            break;
        }
        line.push_str(&next);
    }
    line
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, app: &App, look: Look) {
    let now = app.rates.back().copied().unwrap_or_default();
    let most = app.rates.iter().copied().max().unwrap_or_default();
    let label = format!("{}/s  most {}/s", size(now), size(most));
    let label_width = label.chars().count() as u16 + 2;
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(label_width)]).areas(area);
    let room = usize::from(left.width);
    let shown: Vec<u64> = app
        .rates
        .iter()
        .skip(app.rates.len().saturating_sub(room))
        .copied()
        .collect();
    let set = if look.symbols.is_ascii() {
        ASCII_BARS
    } else {
        bar::NINE_LEVELS
    };
    let line = Sparkline::default()
        .data(&shown)
        .max(most.max(1))
        .bar_set(set)
        .style(look.colour(Color::Green));
    frame.render_widget(line, left);
    let label = Paragraph::new(Line::from(Span::styled(format!("  {label}"), bold())));
    frame.render_widget(label, right);
}

/// Bars for terminals without Unicode.
const ASCII_BARS: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "#",
    five_eighths: "=",
    half: "=",
    three_eighths: "-",
    one_quarter: "-",
    one_eighth: ".",
    empty: " ",
};

fn draw_files(frame: &mut Frame<'_>, area: Rect, app: &App, look: Look) {
    let files = app.files();
    let room = usize::from(area.height).saturating_sub(1);
    let open = app.seen.as_ref().map_or(0, |seen| seen.status.open_file_count);
    let mut lines = vec![heading(
        &format!("OPEN FILES ({open}), {}", app.sort.name()),
        area,
        look,
    )];
    // The chosen one is always shown.
    let first = (app.chosen + 1).saturating_sub(room);
    for (number, file) in files.iter().enumerate().skip(first).take(room) {
        let line = file_line(app, file, area.width, look);
        let style = match number == app.chosen {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        lines.push(Line::from(Span::styled(line, style)));
    }
    if files.is_empty() {
        lines.push(Line::from("  none"));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// `name  ██▒··>··  cached  position  process`.
fn file_line(app: &App, file: &OpenFile, width: u16, look: Look) -> String {
    let width = usize::from(width);
    let process = file.process.as_ref();
    let process = process.map_or("-".to_owned(), |process| format!("{} {}", process.name, process.pid));
    // A narrow screen has room for names by shorter bars.
    let (process_width, bar_width) = if width < 80 { (12, width / 4) } else { (16, width / 3) };
    let process = fit(&process, process_width);
    let cached = percent(file.cached_bytes, file.size);
    let at = match file.is_passthrough {
        true => "kernel".to_owned(),
        false => format!("at {}", percent(file.position, file.size)),
    };
    let bar = match app.map_of(file) {
        Some(map) => {
            let position = (!file.is_passthrough && file.read_bytes > 0).then_some(file.position);
            Chart::bar(map, bar_width, position, look.symbols)
        }
        None => String::new(),
    };
    let rest = format!("{bar:bar_width$} {cached:>5} {at:>8}  {process:process_width$}");
    let name = match &file.path {
        Some(path) => path.as_path().display().to_string(),
        None => file.url.clone(),
    };
    let room = width.saturating_sub(rest.chars().count() + 1);
    format!("{:room$} {rest}", fit(&name, room))
}

/// The end of a text that is too long: the names of files differ there.
fn fit(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let tail: String = text.chars().skip(length + 1 - room.max(1)).collect();
    format!("~{tail}")
}

fn draw_origins(frame: &mut Frame<'_>, area: Rect, status: &Status, look: Look) {
    let mut lines = vec![heading("SERVERS", area, look)];
    for origin in status.servers() {
        let down = status.down.iter().find(|down| down.origin == origin.origin);
        let text = match down {
            Some(down) => format!("{}: DOWN: {}", origin.origin, down.reason),
            None => origin_line(origin),
        };
        let style = down.map_or(Style::new(), |_| look.colour(Color::Red));
        lines.push(Line::from(Span::styled(text, style)));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn origin_line(origin: &Origin) -> String {
    let mut text = format!("{}: {}/{} busy", origin.origin, origin.fetches, origin.connections);
    if let (Some(latency), Some(rate)) = (origin.latency_ms, origin.connection_rate) {
        text.push_str(&format!(", {latency} ms, {}/s each", size(rate)));
    }
    if origin.waiters > 0 {
        text.push_str(&format!(", {} wait", origin.waiters));
    }
    text
}

fn draw_tier(frame: &mut Frame<'_>, area: Rect, status: &Status, look: Look) {
    let Some(tier) = &status.tier else { return };
    let (here, elsewhere) = (size(tier.received_bytes), size(tier.other_received_bytes));
    let title = format!("TIER, {here} from it, {elsewhere} from other servers");
    let mut lines = vec![heading(&title, area, look)];
    let names = tier.names.iter().map(|name| (name_line(name), name.error.is_some()));
    let nodes = tier.nodes.iter().map(|node| (node_line(node), node.unused.is_some()));
    for (line, is_bad) in names.chain(nodes) {
        let style = if is_bad { look.colour(Color::Red) } else { Style::new() };
        lines.push(Line::from(Span::styled(line, style)));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn node_line(node: &TierNode) -> String {
    let unused = node.unused.iter().map(|why| format!("NOT USED: {why}"));
    let parts: Vec<String> = unused.chain(node_figures(node, percent)).collect();
    format!("{}: {}", node.url, parts.join(", "))
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, app: &App, status: &Status, look: Look) {
    let now = status.mounted_at + status.mounted_for;
    let mut lines = vec![heading("EVENTS", area, look)];
    for event in app.events.iter().take(usize::from(area.height)) {
        let ago = humantime::format_duration(Duration::from_secs(now.saturating_sub(event.at)));
        lines.push(Line::from(format!("{ago} ago: {}", event.what)));
    }
    if app.events.is_empty() {
        lines.push(Line::from("  none"));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let keys = "q quit  s sort  p pin  e evict  f prefetch  l limit";
    let text = match (&app.typed, app.message()) {
        (Some(typed), _) => format!("rate limit (2MB, off; Esc cancels): {typed}_"),
        (None, Some(message)) => message.to_owned(),
        (None, None) => keys.to_owned(),
    };
    frame.render_widget(Paragraph::new(Line::from(Span::styled(text, bold()))), area);
}

fn heading(text: &str, area: Rect, look: Look) -> Line<'static> {
    let rule = if look.symbols.is_ascii() { "-" } else { "─" };
    let room = usize::from(area.width).saturating_sub(text.chars().count() + 1);
    let style = bold().patch(look.colour(Color::Cyan));
    Line::from(Span::styled(format!("{text} {}", rule.repeat(room)), style))
}

fn short(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Connecting => "connecting",
        Phase::Tls => "TLS handshake",
        Phase::FirstByte => "for the first byte",
        Phase::Transferring => "transferring",
        Phase::Throttled => "throttled",
        Phase::BackingOff => "backing off",
        Phase::Disk => "for the disk",
    }
}

/// Rounded down: 100% is all of it.
fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "100%".to_owned(),
        _ => format!("{}%", output::percent(part, whole)),
    }
}
