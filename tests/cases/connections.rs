//! Connections, limits and slow neighbours.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fetchfs::internals::events;
use nix::sys::signal::Signal;

use crate::common::servers::WebServer;
use crate::common::{Mount, PATIENCE};

/// Long enough for a busy machine, and shorter than the default timeout of a silence (30 s).
const SOON: Duration = Duration::from_secs(20);

/// The number of names with a known size, as `ls -l` requests it.
#[track_caller]
fn sized_names(mount: &Mount) -> usize {
    let names = fs::read_dir(mount.root()).expect("a directory");
    let entries = names.map(|entry| entry.expect("a name"));
    entries
        .filter(|entry| entry.metadata().expect("its size").len() > 0)
        .count()
}

/// Data, metadata, probes and idle connections count together.
#[test]
fn max_connections_is_never_exceeded() {
    for most in [1, 3] {
        let server = WebServer::case("connection-limit.py", &["PORT"]);
        let mount = Mount::of(&server.url("/"))
            .with("--max-connections", &most.to_string())
            .start();
        assert_eq!(sized_names(&mount), 60);
        std::thread::scope(|scope| {
            for reader in 0..4 {
                let path = |file: usize| mount.path(format!("f{file}"));
                scope.spawn(move || {
                    for file in (reader..60).step_by(4) {
                        assert_eq!(fs::read(path(file)).expect("its bytes").len(), 3000);
                    }
                });
            }
        });
        let printed = server.printed();
        let counts = printed.split("'most open': ").skip(1);
        let open = counts.map(|rest| {
            rest.split(',')
                .next()
                .and_then(|count| count.parse::<usize>().ok())
                .expect("a count")
        });
        assert_eq!(open.max(), Some(most), "connections at once");
    }
}

/// An idle connection of fetchfs blocks a new one: the server accepts the next one only after this one is closed.
#[test]
fn single_connection_server_is_used_with_one() {
    for options in [&[][..], &["1"]] {
        let server = WebServer::case("single-thread.py", &["PORT"]);
        let plan = Mount::of(&server.url("/"));
        let mount = options
            .iter()
            .fold(plan, |plan, most| plan.with("--max-connections", most))
            .start();
        let began = Instant::now();
        assert_eq!(sized_names(&mount), 4);
        for file in 0..4 {
            assert_eq!(fs::read(mount.path(format!("f{file}"))).expect("its bytes"), b"hello\n");
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

#[test]
fn listings_interleave_with_a_stream_on_one_connection() {
    let server = WebServer::case("slow-stream.py", &["PORT"]);
    let mount = Mount::of(&server.url("/")).with("--max-connections", "1").start();
    let mut stream = File::open(mount.path("big.bin")).expect("to open");
    let mut bytes = vec![0; 1 << 20];
    let (is_seen, (begun, has_begun)) = (&AtomicBool::new(false), mpsc::channel());
    std::thread::scope(|scope| {
        // The stream would take two minutes.
        let streaming = scope.spawn(move || {
            for piece in 0.. {
                stream.read_exact(&mut bytes)?;
                if piece == 24 {
                    begun.send(()).expect("the test waits for it");
                }
                if piece > 24 && is_seen.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Ok::<_, io::Error>(())
        });
        let wait = has_begun.recv_timeout(PATIENCE);
        let began = Instant::now();
        let size = fs::metadata(mount.path("sub/x")).map(|metadata| metadata.len());
        let took = began.elapsed();
        is_seen.store(true, Ordering::Relaxed);
        streaming.join().expect("no panic").expect("the stream goes on");
        wait.expect("the stream's beginning");
        assert_eq!(size.expect("a name, by a page and a HEAD"), 6);
        assert!(took < SOON, "{took:?}");
    });
}

/// A router that forgets connections, or a suspended laptop: neither an end nor a reset arrives.
#[test]
fn silently_dead_connections_cause_no_error() {
    let server = WebServer::case("dead-pool.py", &["PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    let file = File::open(mount.path("a")).expect("to open");
    let mut bytes = vec![1; 64 << 10];
    file.read_exact_at(&mut bytes, 0).expect("its beginning");
    for place in [32 << 20, 48 << 20] {
        server.signal(Signal::SIGUSR1);
        let began = Instant::now();
        bytes.fill(1);
        file.read_exact_at(&mut bytes, place).expect("no error");
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    let blamed = [events::ORIGIN_DOWN, events::ORIGIN_UNRESPONSIVE];
    assert!(
        blamed.iter().all(|event| mount.events(*event) == 0),
        "the server is not to blame"
    );
}

#[test]
fn stalled_body_is_retried_on_a_new_connection() {
    let server = WebServer::case("stall-in-body.py", &["PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    let began = Instant::now();
    assert_eq!(fs::read(mount.path("f.bin")).expect("its bytes").len(), 4 << 20);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// RFC 9110 §9.3.2 forbids it. The bytes after the head are no HTTP, and precede the next response.
#[test]
fn head_response_with_a_body_is_harmless() {
    let server = WebServer::case("head-with-body.py", &["PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    assert_eq!(sized_names(&mount), 40);
}
