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
    // Nothing at all may be a command that has failed.
    assert_eq!(status(b""), Some(1));
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

/// Files of other tools, and of BMCs that change records, as they were found (cli/tests/read/cases).
#[test]
fn files_of_all_tools_are_read() {
    let crash = |file: &str| {
        let json = printed(&read(&["--json"], &format!("cases/{file}")));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let [crash] = &json["crashes"].as_array().unwrap()[..] else { panic!("{file}: {json:#}") };
        crash.clone()
    };
    for file in [
        "crash.sel",
        "crash.sel.gz",
        "type0.sel",
        "rawcmd18.txt",
        "list-utf16.txt",
        "loc-ja.txt",
        "nulpad.txt",
    ] {
        let crash = crash(file);
        assert_eq!(crash["reason"], "Fatal exception in interrupt", "{file}: {crash:#}");
        assert_eq!((&crash["build_id"], &crash["dump"][1]), (&"eb4fbcd0".into(), &"saved".into()), "{file}");
        assert!(crash["time"]["text"].as_str().unwrap().contains(":13:20"), "{file}: {crash:#}");
    }
    assert_eq!(crash("fi-nohead-min.txt")["reason"], "Fatal exception in interrupt");
    // Older versions wrote no count and check.
    for file in ["stream-gen20.sel", "stream-type0.sel"] {
        let crash = crash(file);
        assert_eq!(
            (&crash["reason"], &crash["panicked"]["cpu"]),
            (&"Out of memory".into(), &1.into()),
            "{file}"
        );
        assert!(crash["complete"].is_null(), "{file}: {crash:#}");
        let report = printed(&read(&[], &format!("cases/{file}")));
        assert!(report.contains("; may be incomplete"), "{report}");
    }
    // A BMC without the records' last byte: no text is told as a whole.
    let cut = crash("oem-cut15.sel");
    assert_eq!((&cut["reason_whole"], &cut["complete"]), (&false.into(), &false.into()), "{cut:#}");
    assert!(cut["build_id"].is_null(), "{cut:#}");
    let refused = read(&[], "cases/old38.bin");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "{refused:?}");
}

#[test]
fn hosts_in_one_file_are_told_one_after_the_other() {
    let of = |host: &str, file: &str| -> String {
        text(file).lines().take(40).flat_map(|line| [host, ": ", line, "\n"]).collect()
    };
    let told = |arguments: &[&str], input: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), input).unwrap();
        let output = read(arguments, file.path().to_str().unwrap());
        let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).unwrap());
        (output.status.code().unwrap(), texts[0].clone(), texts[1].clone())
    };
    let crashed = of("db04", "ipmitool-list.txt");
    let quiet = "db05: SEL has no entries\n";
    let away = "db06: Error: Unable to establish IPMI v2 / RMCP+ session\n";
    // What is asked for is asked of each host.
    for arguments in [&["-n", "1"][..], &["--last"], &["-n", "1", "--since", "30000d"]] {
        let (status, out, err) =
            told(arguments, &[&crashed, quiet, &crashed.replace("db04", "db07"), away].concat());
        // In the one that has no SEL may be another.
        assert_eq!((status, out.matches("PANIC on db0").count()), (1, 2), "{out}");
        assert!(out.contains("PANIC on db04") && out.contains("PANIC on db07"), "{out}");
        assert!(err.contains("db06: not a SEL"), "{err}");
    }
    assert_eq!(told(&["-n", "1"], &[&crashed, quiet].concat()).0, 0);
    let (status, out, _) = told(&[], quiet);
    assert!(status == 3 && out.contains(", host db05"), "{out}");
    assert_eq!(told(&[], &[quiet, away].concat()).0, 1);
    let (_, json, _) = told(&["--json"], &[&crashed, quiet].concat());
    let hosts = serde_json::Deserializer::from_str(&json).into_iter::<serde_json::Value>();
    assert_eq!(hosts.map(|json| json.unwrap()["host"].clone()).collect::<Vec<_>>(), ["db04", "db05"]);
}
