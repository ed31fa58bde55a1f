//! Commands and daemons: each ends when it is told to, when its time is up, or with the benchmark that started it.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often something is looked at that has no event. Short beside all that is measured.
const GLANCE: Duration = Duration::from_micros(500);

/// How long an orderly end may take.
const ORDERLY: Duration = Duration::from_secs(10);

/// What a daemon has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Seconds of processor time, its own and the kernel's for it.
    pub cpu: f64,
    /// The most resident memory that it had at once, in bytes.
    pub memory: u64,
}

/// Starts a process that gets SIGTERM when this one dies. To be called on the main thread: the kernel ties a child to
/// the thread that started it.
///
/// # Errors
/// When the program can't be started.
pub fn spawn(command: &mut Command) -> Result<Child> {
    let parent = std::process::id();
    let tie = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have died before the tie was made.
        if std::os::unix::process::parent_id() == parent {
            Ok(())
        } else {
            Err(io::Error::other("orphaned"))
        }
    };
    // SAFETY: prctl and getppid are async-signal-safe.
    unsafe { command.pre_exec(tie) };
    command.spawn().with_context(|| format!("{command:?} does not start"))
}

/// Waits for a child's end; `None` when it does not come in time.
///
/// # Errors
/// When the child can't be waited for.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    poll_until(limit, || Ok(child.try_wait()?))
}

/// Asks until there is an answer; `None` when there is none in time.
///
/// # Errors
/// What asking says.
pub fn poll_until<T>(limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = ask()?;
        if answer.is_some() || Instant::now() >= deadline {
            return Ok(answer);
        }
        thread::sleep(GLANCE);
    }
}

/// Runs a command to its end and says how long that took. Its standard output goes where the command says, and nowhere
/// otherwise.
///
/// # Errors
/// When it fails, or takes longer than `limit`; it is killed then.
pub fn run(command: &mut Command, limit: Duration) -> Result<Duration> {
    let begun = Instant::now();
    let mut child = spawn(command.stdin(Stdio::null()))?;
    match wait(&mut child, limit)? {
        Some(status) if status.success() => Ok(begun.elapsed()),
        Some(status) => bail!("{} failed: {status}", shown(command)),
        None => {
            // A reader of a mount that hangs may not go before its daemon does; the mount's guard sees to that.
            let _ = child.kill();
            let _ = wait(&mut child, ORDERLY);
            bail!("{} took longer than {} s", shown(command), limit.as_secs())
        }
    }
}

/// Ends a child: by SIGTERM, and by SIGKILL when that does not help in time.
pub fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        signal(child.id(), Signal::SIGTERM);
        if matches!(wait(child, ORDERLY), Ok(None)) {
            let _ = child.kill();
            let _ = wait(child, ORDERLY);
        }
    }
}

/// Sends a signal to a child that nobody has waited for yet, so that its number is its own.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// What a process has used so far.
///
/// # Errors
/// When it has ended.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the daemon has ended")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the daemon has ended")?;
    // The name in parentheses may hold anything; the fields that count stand after it: utime and stime are the 14th
    // and 15th of all (proc(5)).
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    let high_water: Option<u64> = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()
    });
    match (ticks(11), ticks(12), high_water) {
        (Some(user), Some(system), Some(kib)) => Ok(Usage {
            cpu: (user + system) / ticks_per_second(),
            memory: kib * 1024,
        }),
        _ => Err(anyhow!("/proc/{pid} says nothing of time and memory")),
    }
}

fn ticks_per_second() -> f64 {
    // SAFETY: takes a constant, returns a number.
    (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

fn shown(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
