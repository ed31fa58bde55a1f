//! The journal's own protocol: a datagram with fields for each line, so that `journalctl FETCHFS_EVENT=origin_down` finds
//! events (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use log::{Log, Metadata, Record};

use super::priority;
use crate::util::events::Event;

/// The journal's socket.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest message in bytes. A datagram has room for more; a line never needs as much.
const LONGEST: usize = 32 << 10;

/// Returns true if a journal runs on this machine.
pub(super) fn is_there() -> bool {
    Path::new(SOCKET).exists()
}

/// Writes to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    mountpoint: String,
}

impl Journal {
    /// For the mount on `mountpoint`, which each line names.
    ///
    /// # Errors
    /// If no journal listens.
    pub(super) fn open(mountpoint: &Path) -> io::Result<Journal> {
        Journal::at(Path::new(SOCKET), mountpoint)
    }

    fn at(path: &Path, mountpoint: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A journal that hangs must not stop the mount.
        socket.set_nonblocking(true)?;
        let mountpoint = mountpoint.display().to_string();
        Ok(Journal { socket, mountpoint })
    }
}

impl Log for Journal {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A line that the journal does not take is lost; there is no other place for it.
        let _ = self.socket.send(&datagram(record, &self.mountpoint));
    }

    fn flush(&self) {}
}

fn datagram(record: &Record<'_>, mountpoint: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut message = record.args().to_string();
    let end = (0..=LONGEST.min(message.len()))
        .rev()
        .find(|end| message.is_char_boundary(*end));
    message.truncate(end.unwrap_or_default());
    field(&mut bytes, "MESSAGE", &message);
    field(&mut bytes, "PRIORITY", &priority(record.level()).to_string());
    field(&mut bytes, "SYSLOG_IDENTIFIER", "fetchfs");
    field(&mut bytes, "FETCHFS_MOUNT", mountpoint);
    field(&mut bytes, "FETCHFS_MODULE", record.target());
    if let Some(event) = Event::of(record) {
        field(&mut bytes, "FETCHFS_EVENT", event.name());
    }
    bytes
}

/// A field in the form that takes any text: the name, the length in 64 bits, the value.
fn field(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use log::Level;

    use super::*;
    use crate::util::events;

    #[test]
    fn line_is_a_datagram_with_fields() {
        let dir = tempfile::tempdir().unwrap();
        let server = UnixDatagram::bind(dir.path().join("socket")).unwrap();
        let journal = Journal::at(&dir.path().join("socket"), Path::new("/mnt/pub")).unwrap();
        let event = events::ORIGIN_DOWN.key_value();
        let mut record = Record::builder();
        record.level(Level::Warn).target("fetchfs::origin").key_values(&event);
        journal.log(&record.args(format_args!("two\nlines")).build());

        let mut buffer = [0; 4096];
        let length = server.recv(&mut buffer).unwrap();
        let mut rest = &buffer[..length];
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let (name, value) = (String::from_utf8(rest[..end].to_vec()).unwrap(), &rest[end + 1..]);
            let length = u64::from_le_bytes(value[..8].try_into().unwrap()) as usize;
            fields.insert(name, String::from_utf8(value[8..8 + length].to_vec()).unwrap());
            assert_eq!(value[8 + length], b'\n');
            rest = &value[9 + length..];
        }
        let expected = [
            ("FETCHFS_EVENT", "origin_down"),
            ("FETCHFS_MODULE", "fetchfs::origin"),
            ("FETCHFS_MOUNT", "/mnt/pub"),
            ("MESSAGE", "two\nlines"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "fetchfs"),
        ];
        assert_eq!(
            fields,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        );
    }
}
