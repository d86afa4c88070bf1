//! `lastwords read` from outside, on what ipmitool 1.8.19 and FreeIPMI 1.6.10 wrote of one SEL in OpenIPMI's ipmi_sim
//! (`read/`): foreign records, Linux's own words, a rehearsal, a whole crash, one with lost records, one in system event
//! records, one with next to nothing.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/read").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(data(name)).unwrap()
}

fn read(arguments: &[&str], file: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastwords"))
        .args(["read", "--file", data(file).to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The time of each crash looks as it does in the listing.
fn without_times(report: &str) -> String {
    let line = |line: &str| match line.split_once(", ") {
        Some((title, time)) if time.ends_with(" (BMC time)") => format!("{title}\n"),
        _ => format!("{line}\n"),
    };
    report.lines().map(line).collect()
}

#[test]
fn complete_forms_tell_everything() {
    assert_eq!(printed(&read(&[], "ipmitool-writeraw.bin")), text("report.txt"));
    assert_eq!(printed(&read(&[], "ipmi-sel-hex-dump.txt")), text("report.txt"));
    for file in ["ipmi-sel.txt", "ipmi-sel.csv", "ipmi-sel-vv.txt"] {
        assert_eq!(without_times(&printed(&read(&[], file))), without_times(&text("report.txt")), "{file}");
    }
}

#[test]
fn forms_without_numbers_are_joined_and_say_so() {
    for (file, report) in [
        ("ipmi-sel-oem-data.txt", "report-unnumbered.txt"),
        ("ipmitool-v-list.txt", "report-unnumbered.txt"),
        ("ipmitool-list.txt", "report-list.txt"),
        ("ipmitool-c-list.csv", "report-list.txt"),
    ] {
        assert_eq!(without_times(&printed(&read(&[], file))), text(report), "{file}");
    }
    let list = printed(&read(&[], "ipmitool-list.txt"));
    assert!(list.contains("Crash 2 of 5, 11/22/26 16:17:10 UTC (BMC time)"), "{list}");
}

#[test]
fn symbols_name_the_places() {
    let symbols = data("kallsyms.txt");
    let report = printed(&read(&["--symbols", symbols.to_str().unwrap()], "ipmitool-writeraw.bin"));
    assert_eq!(report, text("report-symbols.txt"));
}

#[test]
fn json_is_as_documented() {
    let symbols = data("kallsyms.txt");
    let json = printed(&read(&["--json", "--symbols", symbols.to_str().unwrap()], "ipmitool-writeraw.bin"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut expected: serde_json::Value = serde_json::from_str(&text("report.json")).unwrap();
    expected["source"] = data("ipmitool-writeraw.bin").to_str().unwrap().into();
    assert_eq!(json, expected);
}

#[test]
fn the_last_crash_alone() {
    let last = printed(&read(&["--last"], "ipmitool-writeraw.bin"));
    assert!(last.starts_with("Crash, Mon 23 Nov 2026 02:00:00 (BMC time)\n"), "{last}");
    assert_eq!(last.matches("\n  why ").count(), 1, "{last}");
}

#[test]
fn standard_input_is_read_and_the_exit_status_tells() {
    let status = |input: &[u8]| {
        let mut lastwords = Command::new(env!("CARGO_BIN_EXE_lastwords"))
            .args(["read", "--file", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        lastwords.stdin.take().unwrap().write_all(input).unwrap();
        lastwords.wait().unwrap().code()
    };
    let list = text("ipmitool-list.txt");
    assert_eq!(status(list.as_bytes()), Some(0));
    // A SEL without words, in text and raw; an empty one.
    assert_eq!(status(list.lines().next().unwrap().as_bytes()), Some(3));
    assert_eq!(status(&fs::read(data("ipmitool-writeraw.bin")).unwrap()[..16]), Some(3));
    assert_eq!(status(b"SEL has no entries\n"), Some(3));
    assert_eq!(status(b""), Some(3));
    // No SEL, and one that is of no use.
    assert_eq!(status(b"hello, world\n"), Some(1));
    assert_eq!(status(b"\x7fELF\x02\x01\x01\0"), Some(1));
    assert_eq!(status(text("ipmitool-save.txt").as_bytes()), Some(1));
}

#[test]
fn wrong_usage() {
    for arguments in
        [&["--host", "bmc"][..], &["--file", "x", "--host", "bmc", "--user", "u"], &["--user", "u"]]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_lastwords")).arg("read").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
