//! The metrics that Prometheus's client libraries have for every process, by their usual names.

use nix::sys::resource::{Resource, getrlimit};
use procfs::WithCurrentSystemInfo;
use procfs::process::Process;

use super::encode::Metrics;

/// Writes them, as far as `/proc` can be read.
pub(super) fn encode(metrics: &mut Metrics<'_>) -> std::fmt::Result {
    let Ok(process) = Process::myself() else { return Ok(()) };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let seconds = (stat.utime + stat.stime) as f64 / ticks;
        metrics.counter_f64("process_cpu_seconds", "CPU time of the mount's process", seconds)?;
        let resident = stat.rss_bytes().get();
        metrics.gauge(
            "process_resident_memory_bytes",
            "Memory of the mount's process",
            resident,
        )?;
        metrics.gauge(
            "process_threads",
            "Threads of the mount's process",
            u64::try_from(stat.num_threads).unwrap_or_default(),
        )?;
        if let Ok(boot) = procfs::boot_time_secs() {
            metrics.gauge_f64(
                "process_start_time_seconds",
                "When the mount's process started, in seconds since 1970",
                boot as f64 + stat.starttime as f64 / ticks,
            )?;
        }
    }
    if let Ok(open) = process.fd_count() {
        metrics.gauge(
            "process_open_fds",
            "Open descriptors of the mount's process",
            open as u64,
        )?;
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        metrics.gauge("process_max_fds", "Most descriptors that it may have", soft)?;
    }
    Ok(())
}
