//! `lastwords read` from outside, on what ipmitool 1.8.19 and FreeIPMI 1.6.10 wrote of one SEL in OpenIPMI's ipmi_sim
//! (`read/`): foreign records, Linux's own text, a test report, a whole crash, one with lost records, one in system event
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

/// The time of each crash looks as it does in the listing, and there is no id that is made of it.
fn without_times(report: &str) -> String {
    let line = |line: &str| match line.split_once(" (BMC clock)") {
        Some((title, dump)) => format!("{}{dump}\n", title.split(',').next().unwrap()),
        None => format!("{line}\n"),
    };
    report.lines().filter(|line| !line.ends_with(" (derived)")).map(line).collect()
}

#[test]
fn complete_forms_hold_everything() {
    assert_eq!(printed(&read(&["--all"], "ipmitool-writeraw.bin")), text("report.txt"));
    assert_eq!(printed(&read(&["--all"], "ipmi-sel-hex-dump.txt")), text("report.txt"));
    for file in ["ipmi-sel.txt", "ipmi-sel.csv", "ipmi-sel-vv.txt"] {
        let report = printed(&read(&["--all"], file));
        assert_eq!(without_times(&report), without_times(&text("report.txt")), "{file}");
    }
}

#[test]
fn the_newest_is_shown_in_full_and_the_others_in_a_line() {
    assert_eq!(printed(&read(&[], "ipmitool-writeraw.bin")), text("report-overview.txt"));
}

#[test]
fn colour_comes_when_asked_for_and_changes_no_text() {
    let report = text("report-overview.txt");
    assert_eq!(printed(&read(&["--color", "never"], "ipmitool-writeraw.bin")), report);
    let coloured = printed(&read(&["--color=always"], "ipmitool-writeraw.bin"));
    assert!(coloured.contains("\x1b["), "{coloured}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), report);
}

#[test]
fn forms_without_numbers_are_joined_with_a_note() {
    for (file, report) in [
        ("ipmi-sel-oem-data.txt", "report-unnumbered.txt"),
        ("ipmitool-v-list.txt", "report-unnumbered.txt"),
        ("ipmitool-list.txt", "report-list.txt"),
        ("ipmitool-c-list.csv", "report-list.txt"),
    ] {
        let printed = printed(&read(&["--all"], file));
        assert_eq!(without_times(&printed), without_times(&text(report)), "{file}");
    }
    assert_eq!(printed(&read(&["--all"], "ipmitool-list.txt")), text("report-list.txt"));
}

#[test]
fn symbols_name_the_locations() {
    let symbols = data("kallsyms.txt");
    let report = printed(&read(&["--all", "--symbols", symbols.to_str().unwrap()], "ipmitool-writeraw.bin"));
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
fn json_has_a_word_for_each_way_to_have_no_location() {
    let lines = ["id 5f3e9a1b", "3=dead", "2*dead", "1*unread", "4*off", "5*off/dead"];
    let hex = |(number, line): (usize, &str)| {
        let bytes = [&[0, 0, 0xf0, 0x20, 0x80 | number as u8], line.as_bytes(), &[0; 11]].concat();
        bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines.into_iter().enumerate().map(hex).collect::<Vec<_>>().join("\n")).unwrap();
    let json = printed(&read(&["--json"], file.path().to_str().unwrap()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let crash = &json["crashes"][0];
    // Who panicked has not failed to respond, whatever an older version wrote.
    assert_eq!(
        (&crash["panicked"]["cpu"], &crash["panicked"]["place"]["kind"]),
        (&3.into(), &"unread".into())
    );
    let groups: Vec<_> =
        crash["groups"].as_array().unwrap().iter().map(|group| &group["place"]["kind"]).collect();
    assert_eq!(groups, ["dead", "unread", "off", "off-or-dead"]);
}

/// What keeps the names from a person keeps them from a program, too.
#[test]
fn json_has_the_notes() {
    let notes = |file| {
        let json: serde_json::Value = serde_json::from_str(&printed(&read(&["--json"], file))).unwrap();
        (json["notes"].to_string(), json["kernels_without_symbols"].to_string())
    };
    let kernels = r#"["00c0ffee","5f3e9a1b"]"#.to_owned();
    assert_eq!(notes("ipmitool-writeraw.bin"), (r#"["no-symbols"]"#.to_owned(), kernels.clone()));
    let all = r#"["no-sequence","no-event-data","no-symbols"]"#.to_owned();
    assert_eq!(notes("ipmitool-list.txt"), (all, kernels));
}

#[test]
fn the_newest_alone() {
    let report = text("report.txt");
    let crashes: Vec<_> = report.split("\n\nPANIC, ").collect();
    for (arguments, count) in
        [(&["-n", "1"][..], 1), (&["--last"], 1), (&["-n2"], 2), (&["--newest", "3"], 3)]
    {
        let shown = printed(&read(arguments, "ipmitool-writeraw.bin"));
        assert!(shown.starts_with(crashes[0]), "{shown}");
        assert_eq!(shown.matches("PANIC, ").count(), count, "{shown}");
        assert!(!shown.contains("Earlier") && !shown.contains("TEST REPORT"), "{shown}");
        let json = printed(&read(&[arguments, &["--json"]].concat(), "ipmitool-writeraw.bin"));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["crashes"].as_array().unwrap().len(), count);
    }
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
    // A SEL without a panic report, in text and raw; an empty one.
    assert_eq!(status(list.lines().next().unwrap().as_bytes()), Some(3));
    assert_eq!(status(&fs::read(data("ipmitool-writeraw.bin")).unwrap()[..16]), Some(3));
    assert_eq!(status(b"SEL has no entries\n"), Some(3));
    assert_eq!(status(b""), Some(3));
    // No SEL, and one that is of no use.
    assert_eq!(status(b"hello, world\n"), Some(1));
    for foreign in
        [&b"\x7fELF\x02\x01\x01\0"[..], b"\x1f\x8b\x08\0\0\0\0\0", b"\xff\xfe1\0|\0", &[1; 64], &[7; 64]]
    {
        assert_eq!(status(foreign), Some(1), "{foreign:?}");
    }
    assert_eq!(status(text("ipmitool-save.txt").as_bytes()), Some(1));
}

#[test]
fn wrong_usage() {
    for arguments in [
        &["--host", "bmc"][..],
        &["--file", "x", "--host", "bmc", "--user", "u"],
        &["--user", "u"],
        &["-n", "0"],
        &["-n", "1", "--all"],
        &["--color", "blue"],
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_lastwords")).arg("read").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
