//! The program that a thread belongs to, by `/proc`.
//!
//! A program has two names: that of its file, and the one that the kernel keeps (comm), which a script has from itself and which
//! is cut after 15 bytes. Either may be the one that people know.
//!
//! Parsed by hand, because the first read of a file waits for it.

use std::fs;

/// A program that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The name of its file; `None` if the mount's process may not see it, as of another user's program.
    file: Option<String>,
    /// The name that the kernel keeps, of the process.
    comm: String,
}

impl Program {
    /// The program of this thread; `None` if it is gone, or invisible here.
    pub(super) fn of(thread: u32) -> Option<Program> {
        if thread == 0 {
            return None;
        }
        let file = file_of(thread);
        let comm = comm(thread)?;
        let is_named_after_file = file.as_ref().is_some_and(|file| file.starts_with(&comm));
        // Threads have names of their own. Then that of the process has to be found, which costs more.
        let comm = match is_named_after_file {
            true => comm,
            false => process_of(thread).and_then(self::comm).unwrap_or(comm),
        };
        Some(Program { file, comm })
    }

    /// Returns true if its file has this name, and is known.
    pub(super) fn has_file(&self, file: Option<String>) -> bool {
        file.is_some() && file == self.file
    }

    /// A program whose file has this name.
    #[cfg(test)]
    pub(super) fn for_tests(file: &str) -> Program {
        Program {
            file: Some(file.to_owned()),
            comm: file.to_owned(),
        }
    }

    /// Its names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.file.as_deref().into_iter().chain([self.comm.as_str()])
    }

    /// The name to show: that of the kernel, or that of the file if it is the same but not cut.
    pub(super) fn shown_name(&self) -> &str {
        let file = self.file.as_deref();
        file.filter(|file| file.starts_with(&self.comm)).unwrap_or(&self.comm)
    }
}

/// The name of the file of this thread's program; `None` if the mount's process may not see it.
pub(super) fn file_of(thread: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{thread}/exe")).ok()?;
    Some(path.file_name()?.to_str()?.trim_end_matches(" (deleted)").to_owned())
}

fn comm(thread: u32) -> Option<String> {
    let comm = fs::read(format!("/proc/{thread}/comm")).ok()?;
    Some(String::from_utf8_lossy(&comm).trim_end_matches('\n').to_owned())
}

/// The process that a thread belongs to (proc(5)). `None` if it is gone or invisible.
pub(in crate::fuse) fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn thread_has_the_name_of_its_process() {
        let me = Program::of(std::process::id()).expect("it is visible");
        let (ask, asked) = mpsc::channel();
        let thread = std::thread::Builder::new().name("another-name".into()).spawn(move || {
            let number = nix::unistd::gettid().as_raw().cast_unsigned();
            ask.send((number, comm(number))).unwrap();
            Program::of(number)
        });
        let (_, own) = asked.recv().unwrap();
        assert_eq!(own.as_deref(), Some("another-name"));
        assert_eq!(thread.unwrap().join().unwrap(), Some(me.clone()));
        assert!(me.shown_name().starts_with(&me.comm) && me.names().count() == 2);
        assert_eq!(Program::of(0), None);
    }

    #[test]
    fn script_is_shown_by_its_own_name() {
        let script = Program {
            file: Some("perl".into()),
            comm: "exiftool".into(),
        };
        assert_eq!(script.shown_name(), "exiftool");
        let long = Program {
            file: Some("totem-video-thumbnailer".into()),
            comm: "totem-video-thu".into(),
        };
        assert_eq!(long.shown_name(), "totem-video-thumbnailer");
    }
}
