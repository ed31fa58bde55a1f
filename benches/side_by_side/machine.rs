//! The class of the machine, and when: figures mean little without.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::report::{object, string};

/// Where and when was measured.
pub struct Machine {
    cores: usize,
    kernel: String,
    memory_gib: u64,
    is_root: bool,
    /// Year, month and day.
    date: String,
    /// Runnable processes of the last minute, before it all began: others who used the machine.
    load: f64,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Machine {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // "6.18.4-custom-build" says 6.18.
        let kernel = kernel.split('.').take(2).collect::<Vec<_>>().join(".");
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: u64 = memory
            .lines()
            .find_map(|line| {
                line.strip_prefix("MemTotal:")?
                    .trim()
                    .strip_suffix("kB")?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        Machine {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel,
            memory_gib: kib.div_ceil(1 << 20),
            is_root: nix::unistd::geteuid().is_root(),
            date: today(),
            load: load(),
        }
    }

    /// One sentence.
    pub fn sentence(&self, sizes: &str) -> String {
        let who = if self.is_root { "root" } else { "an ordinary user" };
        format!(
            "Measured on {}: {} cores, {} GiB of memory, Linux {}, as {who}; {sizes} sizes; load before: {:.1}.",
            self.date, self.cores, self.memory_gib, self.kernel, self.load
        )
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        object([
            ("date", string(&self.date)),
            ("cores", self.cores.to_string()),
            ("memory_gib", self.memory_gib.to_string()),
            ("kernel", string(&self.kernel)),
            ("root", self.is_root.to_string()),
            ("load_before", self.load.to_string()),
            ("load_after", load().to_string()),
        ])
    }
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

fn today() -> String {
    let said = Command::new("date").arg("+%Y-%m-%d").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_else(|_| {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        format!("day {} since 1970", seconds / 86_400)
    })
}
