//! What others wrote reaches no terminal as a command: a log, a symbols file, a file's name, an argument. Each holds characters
//! that are not shown as themselves, and whatever is printed holds none.

use flate2::{Compression, write::GzEncoder};
use lastwords_core::store::sel;
use std::{
    ffi::OsString,
    fs,
    io::Write,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// Characters that are not shown as themselves: ESC and another control character, DEL, CSI of U+0080 to U+009F, ends of
/// lines, directions of writing, an invisible one; as text, and a byte that is CSI to a terminal that is not UTF-8.
const BAD: [&[u8]; 10] = [
    b"\x1b[2J",
    b"\x07",
    b"\x7f",
    "\u{9b}31m".as_bytes(),
    "\u{85}".as_bytes(),
    b"\r",
    "\u{202e}".as_bytes(),
    "\u{2066}".as_bytes(),
    "\u{200b}".as_bytes(),
    b"\x9b1m",
];

/// Is it a character that must not be printed?
fn is_bad(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// Runs the program with these arguments, and this on its standard input.
fn run(folder: &TempDir, arguments: &[OsString], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lastwords"))
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that reads nothing has closed it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Asserts that an output is UTF-8 without bad characters, and that standard error has no lines but our own. Returns both.
fn is_clean(output: &Output, of: &str) -> (String, String) {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap_or_else(|_| panic!("{of}: {bytes:?}"));
        let bad = text.chars().find(|letter| *letter != '\n' && is_bad(*letter));
        assert_eq!(bad, None, "{of}: {text:?}");
        text
    });
    assert_ne!(output.status.code(), None, "{of}: {err}");
    (out, err)
}

fn arguments(words: &str) -> Vec<OsString> {
    words.split_whitespace().map(OsString::from).collect()
}

/// Each bad text within others, between letters.
fn lines(bad: &[u8]) -> Vec<Vec<u8>> {
    let with = |before: &str, after: &str| [before.as_bytes(), bad, after.as_bytes()].concat();
    vec![
        with("Fatal", "exception"),
        b"id eb4fbcd0".to_vec(),
        b"3=1741ba".to_vec(),
        with("NULL", "deref"),
        with("RIP null", "pointer+a"),
        with("Comm ins", "mod"),
        b"2*a592eb".to_vec(),
        with("< do_one", "initcall"),
        with("bad init", "rd"),
        with("another cause", ""),
    ]
}

/// A SEL as `ipmitool sel writeraw` writes it (docs/sel-format.md). The image writes no such characters; others may.
fn sel(bad: &[u8]) -> Vec<u8> {
    let mut records = vec![sel::event_record([bad[0], b'a', *bad.last().unwrap()])];
    for line in lines(bad) {
        for (index, text) in line.chunks(sel::TEXT_LEN).enumerate() {
            let start = if index == 0 { 0x80 } else { 0 };
            let mut record = [0; 16];
            record[2..5].copy_from_slice(&[0xf0, 0x20, start | (records.len() as u8 - 1)]);
            record[5..5 + text.len()].copy_from_slice(text);
            records.push(record);
        }
    }
    records.concat()
}

#[test]
fn no_record_of_a_sel_reaches_the_terminal_as_a_command() {
    let folder = tempfile::tempdir().unwrap();
    for bad in BAD {
        let sel = sel(bad);
        for words in ["read --file -", "read --file - --all", "read --file - --json", "read --file - -n 1"] {
            let of = format!("{words} {bad:?}");
            let output = run(&folder, &arguments(words), &sel);
            let (out, err) = is_clean(&output, &of);
            assert!(output.status.success() && out.contains("Fatal"), "{of}: {err}");
        }
        // Text has nothing but ASCII, colour nothing but colours.
        let (out, _) = is_clean(&run(&folder, &arguments("read --file - --all"), &sel), "text");
        assert!(out.is_ascii(), "{out}");
        let output = run(&folder, &arguments("read --file - --all --color always"), &sel);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), out);
        let mut escapes = text.split('\x1b').skip(1);
        assert!(escapes.all(|rest| rest.starts_with('[') && rest.split('m').next().unwrap().len() <= 5));
    }
}

#[test]
fn no_listing_reaches_the_terminal_as_a_command() {
    let folder = tempfile::tempdir().unwrap();
    for bad in BAD {
        let listings: [&[&[u8]]; 4] = [
            &[
                b"   1 | 11/23/26 ",
                bad,
                b"| 00:04:50 ",
                bad,
                b" | OS Critical Stop #0x46 | Run-time critical stop | Asserted\n   2 | Linux kernel panic: Fat",
                bad,
                b"excep\n",
            ],
            &[
                b"SEL Record ID          : 0001\n Timestamp             : 11/23/26 ",
                bad,
                b"\n Description           : Run-time critical stop\n\nSEL Record ID          : 0002\n Panic string          : Fat",
                bad,
                b"\n",
            ],
            &[
                b"ID | Date        | Time     | Name | Type | Event\n1  | Nov-23-2026",
                bad,
                b"| 00:04:50 | Sensor #70 | OS Critical Stop | Run-time Critical Stop ; OEM Event Data2 code = 61h ; OEM Event Data3 code = 74h\n2  | N/A | N/A | N/A | N/A | Fat",
                bad,
                b"\n",
            ],
            &[b"no SEL at all ", bad],
        ];
        for listing in listings {
            for words in ["read --file - --all", "read --file - --json"] {
                is_clean(&run(&folder, &arguments(words), &listing.concat()), &format!("{words} {bad:?}"));
            }
        }
    }
}

#[test]
fn no_symbols_file_reaches_the_terminal_as_a_command() {
    let folder = tempfile::tempdir().unwrap();
    for bad in BAD {
        let text = [
            b"# build-id eb4fbcd0\n# release 6.1",
            bad,
            b"-amd64\nffffffff81000000 T _stext\nffffffff81174100 t do_",
            bad,
            b"one\nffffffff81a592e0 t idle\t[mod",
            bad,
            b"]\nffffffff81a592e1 t id",
            bad,
            b"le\nffffffff82000000 T _etext\n",
        ];
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&text.concat()).unwrap();
        fs::write(folder.path().join("packed"), gz.finish().unwrap()).unwrap();
        fs::write(folder.path().join("plain"), text.concat()).unwrap();
        for file in ["plain", "packed"] {
            for words in ["read --file - --all --symbols", "read --file - --json --symbols"] {
                let of = format!("{words} {file} {bad:?}");
                let output = run(&folder, &arguments(&format!("{words} {file}")), &sel(b"x"));
                let (out, err) = is_clean(&output, &of);
                // A letter that ends the name ends it.
                assert!(output.status.success() && out.contains("do_"), "{of}: {out}{err}");
                if words.contains("json") {
                    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
                    let crash = json["crashes"].as_array().unwrap().last().unwrap();
                    for text in [&crash["release"], &crash["panicked"]["place"]["symbol"]] {
                        let text = text.as_str().unwrap();
                        assert!(!text.contains(is_bad), "{of}: {text:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_files_name_reaches_the_terminal_as_a_command() {
    let folder = tempfile::tempdir().unwrap();
    for bad in BAD.into_iter().chain([&b"\nlastwords: done\nhint: rm -rf *"[..]]) {
        let name = OsString::from_vec([b"a", bad, b"b"].concat());
        let path = PathBuf::from(&name);
        let with = |words: &str| {
            let words = words.split_whitespace();
            words.map(|word| if word == "NAME" { name.clone() } else { word.into() }).collect::<Vec<_>>()
        };
        fs::write(folder.path().join("sel"), sel(b"x")).unwrap();
        for content in [None, Some(Vec::new()), Some(sel(b"x")), Some(b"\x1f\x8b\x08".to_vec())] {
            let _ = fs::remove_file(folder.path().join(&path));
            if let Some(content) = &content {
                fs::write(folder.path().join(&path), content).unwrap();
            }
            for words in [
                "read --file NAME",
                "read --file NAME --json",
                "read --file sel --symbols NAME",
                "read NAME",
                "read --host NAME",
                "wrap NAME -o out",
                "wrap sel -o NAME",
                "mark NAME",
                "mark saved --ipmi-kcs-ports NAME",
                "NAME",
            ] {
                let of = format!("{words} {name:?} {content:?}");
                let output = run(&folder, &with(words), b"");
                let (_, err) = is_clean(&output, &of);
                if words.starts_with("read --file") {
                    let ours =
                        |line: &str| ["lastwords: error: ", "hint: "].iter().any(|own| line.starts_with(own));
                    assert!(err.lines().all(ours) && !err.contains("\nhint: rm"), "{of}: {err}");
                }
            }
        }
    }
}
