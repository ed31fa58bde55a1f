//! The number of connections of a long stream in the end, with a limit for each connection and with
//! a shared line; see [`line`].

use super::line::{Connection, FAR, IN_SEQUENCE, Line, MIB, Pace};

/// 50 ms, and 20 MB/s over all connections together.
const SHARED: Connection = Connection {
    in_all: Some(20_000_000),
    ..FAR
};

impl Line {
    /// The number of connections for read-ahead in the end.
    fn connections_in_use(&mut self) -> usize {
        let (_, origin) = self.scheduler.table.queues.named().next().unwrap();
        self.scheduler.table.queues.at(origin).concurrency_probe.of(16)
    }
}

#[test]
fn shared_line_stream_leaves_capacity_for_a_seek() {
    let mut line = Line::new(SHARED);
    let size = 4096 * MIB;
    let stream = line.reads(&Line::file(size), 0..size / 2, IN_SEQUENCE);
    // Another file, of which a reader reads one place now and then.
    let jumps = Pace {
        pause: 1_000_000,
        step: 30 * MIB + 4096,
    };
    let jumper = line.reads(&Line::file(size), 0..90 * 30 * MIB, jumps);
    line.run();
    let took = &line.programs[jumper].took;
    let longest = |part: &[u64]| part.iter().max().copied().unwrap() / 1000;
    let (first, last) = (longest(&took[5..15]), longest(&took[took.len() - 20..]));
    println!("a jump waits {first} ms at first, and {last} ms in the end");
    assert!(first >= 150, "{first} ms: there is nothing to gain");
    assert!(last <= 100, "{last} ms");
    let rate = (size / 2) as f64 / line.programs[stream].done_at.unwrap() as f64;
    assert!(rate >= 18.5, "{rate} MB/s for the stream");
    assert!(
        (2..=4).contains(&line.connections_in_use()),
        "{} connections",
        line.connections_in_use()
    );
}

#[test]
fn per_connection_limit_stream_keeps_all_connections() {
    let mut line = Line::new(FAR);
    let size = 32 * 1024 * MIB;
    let stream = line.reads(&Line::file(size), 0..size, IN_SEQUENCE);
    line.run();
    let rate = size as f64 / line.programs[stream].done_at.unwrap() as f64;
    println!("{rate:.0} MB/s for 32 GiB");
    assert!(rate >= 288.0, "{rate} MB/s");
    assert_eq!(line.connections_in_use(), 16);
}
