//! Processes by the numbers of their threads.

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its number, as the mount's process sees it.
    pub pid: u32,
    /// Its name (comm).
    pub name: String,
}

impl Process {
    /// The process that a thread belongs to; `None` if it is gone or invisible.
    pub(crate) fn of_thread(thread: u32) -> Option<Process> {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        let pid = pid.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = name.trim_end_matches('\n').to_owned();
        Some(Process { pid, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_is_named_by_its_process() {
        let found = std::thread::spawn(|| Process::of_thread(nix::unistd::gettid().as_raw().cast_unsigned()));
        let found = found.join().unwrap().expect("it is visible");
        assert_eq!(found.pid, std::process::id());
        assert!(!found.name.is_empty() && !found.name.contains('\n'));
        assert_eq!(Process::of_thread(0), None);
    }
}
