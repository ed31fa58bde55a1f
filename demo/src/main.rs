//! A small web server to try fetchfs on: `make demo` mounts it.
//!
//! ```text
//! cargo run --package sample-origin -- [--port PORT] [--log FILE] [--kinds]
//! ```
//!
//! It prints its URL on one line and serves until SIGTERM or SIGINT. What it serves is made as it is asked for: a
//! gigabyte of noise, a few texts, and a melody to hear. It is the server of the tests (`tests/origin`), without its
//! faults. With `--kinds` it prints a second URL: of a server that lists a tree in other ways ([`kinds`]).

#[path = "../../tests/origin/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the demo needs no faults")]
mod origin;

mod kinds;

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

use kinds::Tree;
use origin::{Content, Origin};

const README: &str = "\
This directory is on a web server. Nothing in it was downloaded when you mounted it.

big.img    1 GiB; read a piece from its middle and see how little is fetched
docs/      a few texts to grep
tune.wav   half a minute to listen to: it plays while it is being fetched
";

const DOCS: [(&str, &str); 3] = [
    (
        "chunks.txt",
        "A file is fetched in chunks, each when somebody first reads a byte of it.\n",
    ),
    (
        "cache.txt",
        "What was fetched once stays on disk. The next mount over the same cache asks for nothing again.\n",
    ),
    (
        "versions.txt",
        "An open file is one version of it. When the server's changes, a read fails; it never mixes.\n",
    ),
];

/// What the server of other kinds has.
const FILMS: [&str; 5] = [
    "Metropolis (1927).txt",
    "Nosferatu (1922).txt",
    "shorts/A Trip to the Moon (1902).txt",
    "shorts/sample.txt",
    "README.nfo",
];

fn film(path: &'static str) -> (&'static str, String) {
    let name = path.rsplit('/').next().unwrap_or(path);
    (path, format!("This would be {name}.\n"))
}

/// Samples a second. Telephone-like, but this is a tune of pure tones.
const SAMPLE_RATE: u32 = 22_050;

/// Seconds that one step of the melody takes.
const STEP: f64 = 0.23;

/// Beethoven's "Ode to Joy": half-tones above C4, and steps.
#[rustfmt::skip]
const MELODY: &[(i32, u32)] = &[
    (4, 2), (4, 2), (5, 2), (7, 2), (7, 2), (5, 2), (4, 2), (2, 2), (0, 2), (0, 2), (2, 2), (4, 2),
    (4, 3), (2, 1), (2, 4),
    (4, 2), (4, 2), (5, 2), (7, 2), (7, 2), (5, 2), (4, 2), (2, 2), (0, 2), (0, 2), (2, 2), (4, 2),
    (2, 3), (0, 1), (0, 4),
    (2, 2), (2, 2), (4, 2), (0, 2), (2, 2), (4, 1), (5, 1), (4, 2), (0, 2),
    (2, 2), (4, 1), (5, 1), (4, 2), (2, 2), (0, 2), (2, 2), (-5, 4),
    (4, 2), (4, 2), (5, 2), (7, 2), (7, 2), (5, 2), (4, 2), (2, 2), (0, 2), (0, 2), (2, 2), (4, 2),
    (2, 3), (0, 1), (0, 4),
];

fn main() -> Result<()> {
    let (mut port, mut log, mut has_kinds) = (0, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--port" => port = value()?.parse().context("--port needs a number")?,
            "--log" => log = Some(value()?),
            "--kinds" => has_kinds = true,
            _ => bail!("{argument}: there is only [--port PORT] [--log FILE] [--kinds]"),
        }
    }
    // Before any thread is there, so that all of them leave the signals to the wait below.
    let ends: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    ends.thread_block()?;
    let origin = Origin::start_on(port).with_context(|| format!("port {port} of 127.0.0.1"))?;
    origin.add("/README.txt", README);
    origin.add("/big.img", Content::noise(1 << 30, 1));
    origin.add("/tune.wav", wav(&tune()));
    for (name, text) in DOCS {
        origin.add(&format!("/docs/{name}"), text);
    }
    if let Some(path) = log {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| path.clone())?;
        origin.log().write_to(file);
    }
    println!("{}", origin.url("/"));
    if has_kinds {
        println!("{}", Tree(FILMS.into_iter().map(film).collect()).serve()?);
    }
    std::io::stdout().flush()?;
    ends.wait()?;
    Ok(())
}

/// The melody as samples: each note a tone with two overtones that dies away like a plucked string.
fn tune() -> Vec<i16> {
    let note = |&(half_tones, steps): &(i32, u32)| {
        let frequency = 261.626 * 2f64.powf(f64::from(half_tones) / 12.0);
        let length = (f64::from(steps) * STEP * f64::from(SAMPLE_RATE)) as u32;
        (0..length).map(move |sample| {
            let time = f64::from(sample) / f64::from(SAMPLE_RATE);
            let tone = |overtone: f64| (std::f64::consts::TAU * frequency * overtone * time).sin() / overtone;
            let attack = (time / 0.01).min(1.0);
            let loudness = attack * (-2.5 * time).exp() * 9000.0;
            (loudness * (tone(1.0) + tone(2.0) * 0.5 + tone(3.0) * 0.3)) as i16
        })
    };
    MELODY.iter().flat_map(note).collect()
}

/// Samples as a RIFF/WAVE file: one channel, 16 bits.
fn wav(samples: &[i16]) -> Vec<u8> {
    let data = samples.len() as u32 * 2;
    let mut file = Vec::with_capacity(44 + data as usize);
    file.extend(b"RIFF");
    file.extend((36 + data).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    for field in [1u16, 1] {
        file.extend(field.to_le_bytes());
    }
    file.extend(SAMPLE_RATE.to_le_bytes());
    file.extend((SAMPLE_RATE * 2).to_le_bytes());
    for field in [2u16, 16] {
        file.extend(field.to_le_bytes());
    }
    file.extend(b"data");
    file.extend(data.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}
