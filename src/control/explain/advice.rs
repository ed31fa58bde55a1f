//! What to do about a slow read: a sentence for each phase in which most of its time may have been spent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ReadState;
use crate::cache::OriginStatus;
use crate::control::protocol::TreePath;
use crate::origin::DownOrigin;
use crate::stats::{MissReason, Phase, SlowRead};

/// What the advice depends on, besides the read.
pub(super) struct Facts {
    pub(super) mountpoint: PathBuf,
    pub(super) cache_dir: PathBuf,
    /// `--max-connections`.
    pub(super) most_connections: usize,
    /// `--bwlimit`, as it was given.
    pub(super) bwlimit: Option<String>,
    /// The servers that data was requested of.
    pub(super) servers: Vec<OriginStatus>,
    /// The servers that are down now, and why.
    pub(super) down: Vec<DownOrigin>,
}

impl Facts {
    /// What to do about a read.
    pub(super) fn advice(&self, read: &SlowRead, state: ReadState, path: Option<&TreePath>) -> String {
        let phase = read.times.longest();
        let advice = self.of_phase(phase, read, path);
        match (state, read.times.total()) {
            (_, Duration::ZERO) => advice,
            (ReadState::Waiting, _) => format!("It still waits. {advice}"),
            _ => advice,
        }
    }

    fn of_phase(&self, phase: Phase, read: &SlowRead, path: Option<&TreePath>) -> String {
        let (mount, time) = (self.mountpoint.display(), spent(read.times[phase]));
        let server = match &read.server {
            Some(server) => server.as_str(),
            None => "the server",
        };
        let prefetch = match path {
            Some(path) => format!("fetchfs prefetch {}", quoted(&self.mountpoint.join(path.as_path()))),
            None => "fetchfs prefetch".to_owned(),
        };
        match phase {
            Phase::Queued => self.of_queue(&time, read),
            Phase::Connecting => format!(
                "Most of the time, {time}, went to finding and reaching the server (name and TCP). Connections are kept \
                 for reads that follow soon; `fetchfs doctor {mount}` measures the way."
            ),
            Phase::Tls => format!(
                "Most of the time, {time}, went to the TLS handshake. Connections are kept for reads that follow soon, so \
                 only the first ones pay for it."
            ),
            Phase::FirstByte => format!(
                "{} needed {time} for the first byte. No option makes it faster; what is fetched ahead does not \
                 wait: {prefetch}",
                capitalized(server)
            ),
            Phase::Transferring if read.reason == Some(MissReason::InFlight) => format!(
                "The bytes were on their way, and the program was faster: it waited {time} for the transfer. {prefetch} \
                 fetches them before they are read."
            ),
            Phase::Transferring => format!(
                "Most of the time, {time}, went to the transfer: the line or the server is slow. `fetchfs top {mount}` \
                 shows its rate; {prefetch} fetches the file before it is read."
            ),
            Phase::Throttled => match &self.bwlimit {
                Some(limit) => format!(
                    "Throttled by --bwlimit {limit} for {time}: fetchfs set {mount} bwlimit=off, or a larger value."
                ),
                None => format!(
                    "Throttled for {time} by a limit that no longer holds, or by the one of its source in the library's file."
                ),
            },
            Phase::BackingOff => self.of_pauses(&time, read),
            Phase::Disk => self.of_disk(&time, read),
        }
    }

    fn of_queue(&self, time: &str, read: &SlowRead) -> String {
        let (mount, most) = (self.mountpoint.display(), self.most_connections);
        let queued = format!("Most of the time, {time}, went to waiting for a connection");
        let server = read.server.as_ref();
        let allowed = self.servers.iter().find(|known| Some(&known.origin) == server);
        match allowed.map(|known| known.connections) {
            Some(allowed) if allowed < most => format!(
                "{queued}: the server gets {allowed} at a time, because it has refused more. A larger --max-connections \
                 ({most}) would not help; fewer readers at a time would."
            ),
            _ => format!(
                "{queued}: all of them were busy. If the server allows more than --max-connections ({most}): fetchfs set \
                 {mount} max_connections={}",
                most.saturating_mul(2).clamp(1, usize::from(u16::MAX))
            ),
        }
    }

    fn of_pauses(&self, time: &str, read: &SlowRead) -> String {
        let pauses = format!("Most of the time, {time}, went to the pauses between attempts");
        let mut down = self.down.iter().map(|down| (down.origin.to_string(), &down.why));
        let is_of_server = |origin: &str| read.url.strip_prefix(origin).is_some_and(|rest| rest.starts_with('/'));
        match down.find(|(origin, _)| is_of_server(origin)) {
            Some((origin, why)) => format!("{pauses}: {origin} is down ({why})."),
            None => format!(
                "{pauses}: the server, or this file on it, had failed. `fetchfs status {}` says why in the lines `failed` \
                 and `down`.",
                self.mountpoint.display()
            ),
        }
    }

    fn of_disk(&self, time: &str, read: &SlowRead) -> String {
        let disk = format!(
            "the disk of the cache ({}) or its file system is slow or busy; --cache-dir names another.",
            self.cache_dir.display()
        );
        match read.reason {
            Some(MissReason::Unverified) => format!(
                "Most of the time, {time}, went to comparing cached bytes with their checksums, which is done once after a \
                 crash."
            ),
            None if read.error.is_none() => format!("No server was asked. Reading from the cache took {time}: {disk}"),
            _ => format!("Most of the time, {time}, went to the cache after the bytes had come: {disk}"),
        }
    }
}

/// A time for people, in two or three digits.
fn spent(time: Duration) -> String {
    let (seconds, milliseconds) = (time.as_secs_f64(), time.as_secs_f64() * 1e3);
    match time.as_millis() {
        0..10 => format!("{milliseconds:.1} ms"),
        10..1000 => format!("{milliseconds:.0} ms"),
        1000..100_000 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// A path as a shell understands it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |char: char| char.is_alphanumeric() || "_./-+@%".contains(char);
    match path.chars().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

fn capitalized(text: &str) -> String {
    match text.strip_prefix("the ") {
        Some(rest) => format!("The {rest}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::stats::PhaseTimes;

    fn facts() -> Facts {
        Facts {
            mountpoint: "/mnt/pub".into(),
            cache_dir: "/var/cache/fetchfs".into(),
            most_connections: 16,
            bwlimit: Some("2MB".to_owned()),
            servers: vec![OriginStatus {
                origin: "http://few".to_owned(),
                fetches: 2,
                connections: 2,
                waiters: 1,
                wanted_bytes: 0,
                latency_and_rate: None,
            }],
            down: Vec::new(),
        }
    }

    fn read(phase: Phase, milliseconds: u64) -> SlowRead {
        let mut times = PhaseTimes::default();
        times.add(Phase::Connecting, Duration::from_millis(1));
        times.add(phase, Duration::from_millis(milliseconds));
        SlowRead {
            url: "http://h/f".to_owned(),
            offset: 0,
            len: 4096,
            began: SystemTime::UNIX_EPOCH,
            took: times.total(),
            times,
            reason: Some(MissReason::NotCached),
            server: Some("http://h".to_owned()),
            process: None,
            error: None,
        }
    }

    fn advice(read: &SlowRead) -> String {
        let path = TreePath::new("dir/f".into());
        facts().advice(read, ReadState::Done, path.as_ref())
    }

    #[test]
    fn each_phase_has_its_own_advice() {
        let all: std::collections::BTreeSet<String> =
            Phase::ALL.into_iter().map(|phase| advice(&read(phase, 1900))).collect();
        assert_eq!(all.len(), Phase::ALL.len());
        assert!(all.iter().all(|advice| advice.contains("1.9 s")), "{all:#?}");
    }

    #[test]
    fn advice_names_what_to_type() {
        let of = |phase| advice(&read(phase, 1900));
        assert!(of(Phase::Queued).contains("fetchfs set /mnt/pub max_connections=32"));
        assert!(of(Phase::FirstByte).contains("fetchfs prefetch /mnt/pub/dir/f"));
        assert!(of(Phase::Throttled).contains("--bwlimit 2MB for 1.9 s: fetchfs set /mnt/pub bwlimit=off"));
        assert!(of(Phase::Disk).contains("/var/cache/fetchfs"));
    }

    #[test]
    fn more_connections_are_not_advised_where_the_server_refuses_them() {
        let mut queued = read(Phase::Queued, 500);
        queued.server = Some("http://few".to_owned());
        let advice = advice(&queued);
        assert!(
            advice.contains("2 at a time") && !advice.contains("fetchfs set"),
            "{advice}"
        );
    }

    #[test]
    fn path_can_be_copied_into_a_shell() {
        assert_eq!(quoted(Path::new("/mnt/pub/a.iso")), "/mnt/pub/a.iso");
        assert_eq!(quoted(Path::new("/mnt/It's $5")), r"'/mnt/It'\''s $5'");
    }

    #[test]
    fn slow_hit_is_the_disks() {
        let mut hit = read(Phase::Disk, 300);
        hit.reason = None;
        assert!(advice(&hit).starts_with("No server was asked"));
    }

    #[test]
    fn waiting_read_is_told_from_one_that_is_over() {
        let waiting = facts().advice(&read(Phase::BackingOff, 300), ReadState::Waiting, None);
        assert!(waiting.starts_with("It still waits. "), "{waiting}");
    }
}
