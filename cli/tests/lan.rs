//! `lastwords read` from outside, of a simulated BMC behind a UDP port: what a script sees of it.

use lastwords_sim::lan::{LanBmc, PASSWORD, USER, Unreadable};
use std::{
    fs,
    net::UdpSocket,
    path::PathBuf,
    process::{Command, Output},
    thread,
};

/// Puts it behind a port, and returns that. It ends with the test.
fn serve(mut bmc: LanBmc) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            for (_, packet) in bmc.receive(0, &buffer[..len]) {
                socket.send_to(&packet, from).unwrap();
            }
        }
    });
    port
}

/// Reads it, with the password in a file of these bytes.
fn read(bmc: LanBmc, password: &[u8]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, password).unwrap();
    let host = format!("127.0.0.1:{}", serve(bmc));
    Command::new(env!("CARGO_BIN_EXE_lastwords"))
        .args(["read", "--host", &host, "--user", str::from_utf8(USER).unwrap(), "--password-file"])
        .arg(file)
        .output()
        .unwrap()
}

/// A log of crashes.
fn crashes() -> Vec<[u8; 16]> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/read/ipmitool-writeraw.bin");
    fs::read(path).unwrap().as_chunks().0.to_vec()
}

/// Fans.
fn fans() -> Vec<[u8; 16]> {
    vec![*b"\0\0\x02\0\0\0\x6a\x20\x00\x04\x04\x30\x01\x09\xff\xff"; 19]
}

#[test]
fn that_there_is_no_report_is_said_only_where_every_record_was_read() {
    let unreadable = |place| Some((place, Unreadable::Code(0xff)));
    for (bmc, status, note) in [
        (LanBmc::new(fans()), 3, ""),
        (LanBmc::new(Vec::new()), 3, ""),
        (LanBmc { unreadable: unreadable(5), ..LanBmc::new(fans()) }, 1, "18 of 19 SEL records read"),
        (LanBmc { unreadable: unreadable(19), ..LanBmc::new(fans()) }, 1, "18 of 19 SEL records read"),
        (LanBmc { count: Some(43), ..LanBmc::new(fans()) }, 1, "19 of 43 SEL records read"),
        (LanBmc { count: Some(43), ..LanBmc::new(Vec::new()) }, 1, "refused Get SEL Entry"),
        (
            LanBmc { count: Some(4), ..LanBmc::new(fans()) },
            3,
            "19 SEL records read, though the BMC counts 4.",
        ),
        (LanBmc { unreadable: unreadable(5), ..LanBmc::new(crashes()) }, 0, "SEL records read"),
    ] {
        let output = read(bmc, PASSWORD);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.contains(note), "{note}: {text}");
        assert!(!note.is_empty() || !text.contains("Note:"), "{text}");
    }
}

#[test]
fn a_password_in_a_file_of_another_systems_editor_is_the_same_password() {
    let wide = |unit: fn(u16) -> [u8; 2]| {
        let text = format!("\u{feff}{}\r\n", str::from_utf8(PASSWORD).unwrap());
        text.encode_utf16().flat_map(unit).collect::<Vec<_>>()
    };
    for file in
        [[b"\xef\xbb\xbf", PASSWORD, b"\r\n"].concat(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)]
    {
        let output = read(LanBmc::new(crashes()), &file);
        assert!(output.status.success(), "{output:?}");
    }
}
