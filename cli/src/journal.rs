//! The journal, by its native protocol (systemd's "Native Journal Protocol"): one datagram of fields to a socket. Where no
//! journal is, nothing is lost but the line.

use std::{io, os::unix::net::UnixDatagram, path::Path};

/// Where systemd-journald listens.
const SOCKET: &str = "run/systemd/journal/socket";

/// How urgent a line is (syslog(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The system is unusable: a crash.
    Emergency = 0,
    /// Something has failed.
    Error = 3,
    /// Something may go wrong.
    Warning = 4,
    /// Something has been done.
    Info = 6,
}

/// Sends a line with further fields. A field's name has capital letters, digits and underscores.
///
/// # Errors
/// When no journal listens, or the fields take more than a datagram.
pub fn send(root: &Path, priority: Priority, message: &str, fields: &[(&str, &str)]) -> io::Result<()> {
    let mut datagram = Vec::new();
    let priority = (priority as u8).to_string();
    let own = [("PRIORITY", &*priority), ("SYSLOG_IDENTIFIER", "lastwords"), ("MESSAGE", message)];
    for (name, value) in own.iter().chain(fields) {
        field(&mut datagram, name, value);
    }
    UnixDatagram::unbound()?.send_to(&datagram, root.join(SOCKET)).map(drop)
}

/// `NAME=VALUE`; a value of several lines has its length before it, in 64 bits little endian.
fn field(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend((value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend(value.as_bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn fields_are_one_datagram() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/systemd/journal")).unwrap();
        let journal = UnixDatagram::bind(root.path().join(SOCKET)).unwrap();
        send(root.path(), Priority::Info, "loaded", &[("LASTWORDS_PLAN", "a\nb")]).unwrap();
        let mut datagram = [0; 256];
        let len = journal.recv(&mut datagram).unwrap();
        let head = "PRIORITY=6\nSYSLOG_IDENTIFIER=lastwords\nMESSAGE=loaded\nLASTWORDS_PLAN\n";
        assert_eq!(datagram[..len], [head.as_bytes(), &[3, 0, 0, 0, 0, 0, 0, 0], b"a\nb\n"].concat());
    }

    #[test]
    fn without_a_journal_it_is_an_error_and_nothing_hangs() {
        let root = tempfile::tempdir().unwrap();
        assert!(send(root.path(), Priority::Error, "lost", &[]).is_err());
    }
}
