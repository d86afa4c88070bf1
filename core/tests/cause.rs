//! Why a kernel panicked, as the logs of real crashes tell it (`data/log-*.txt`, vmcore-dmesg's text of crashes in QEMU).

use lastwords_core::crash::CauseReader;
use lastwords_core::report::Cause;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A log as dmesg prints it, line by line with its time in nanoseconds.
fn lines(log: &str) -> impl Iterator<Item = (u64, &str)> {
    log.lines().filter_map(|line| {
        let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
        let (seconds, micros) = time.trim().split_once('.')?;
        Some((seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000, text))
    })
}

fn reader(log: &str) -> CauseReader {
    let mut reader = CauseReader::default();
    for (ts_nsec, text) in lines(log) {
        reader.line(ts_nsec, text.as_bytes());
    }
    reader
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn told(cause: &Cause) -> String {
    let mut told = String::new();
    for (name, words) in [
        ("reason", cause.reason.as_bytes()),
        ("cause", cause.report.as_bytes()),
        ("RIP", cause.rip.as_bytes()),
        ("Comm", cause.comm.as_bytes()),
    ] {
        let _ = writeln!(told, "{name}: {}", text(words));
    }
    let _ = writeln!(
        told,
        "callers: {}",
        cause.callers.each_ref().map(|caller| text(caller.as_bytes()).to_owned()).join(" ")
    );
    told
}

fn logs() -> Vec<(String, String)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut logs: Vec<_> = fs::read_dir(data)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem()?.to_str()?.strip_prefix("log-")?.to_owned();
            Some((name, fs::read_to_string(path).unwrap()))
        })
        .collect();
    logs.sort();
    logs
}

#[test]
fn every_kind_of_crash_is_told_as_somebody_has_read_it() {
    let mut all = String::new();
    for (name, log) in logs() {
        let _ = writeln!(all, "{name}\n{}", told(&reader(&log).cause));
    }
    let expected =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cause.txt")).unwrap();
    assert_eq!(all, expected, "what is told:\n{all}");
}

#[test]
fn the_reason_is_the_panics_whole_text() {
    let mut panics = 0;
    for (name, log) in logs() {
        let panic = log.lines().find_map(|line| line.split_once("Kernel panic - not syncing: "));
        if let Some((_, reason)) = panic {
            assert_eq!(text(reader(&log).cause.reason.as_bytes()), reason, "{name}");
            panics += 1;
        }
    }
    assert!(panics >= 18, "{panics}");
}

#[test]
fn what_was_reported_long_before_is_another_matter() {
    let (_, oops) = &logs()[logs().iter().position(|(name, _)| name == "null-pointer-6.1").unwrap()];
    let mut both = reader(oops);
    let later = 100_000_000_000;
    both.line(later, b"Kernel panic - not syncing: sysrq triggered crash");
    both.line(later, b"CPU: 0 PID: 93 Comm: a b Not tainted 6.1.0-56-amd64 #1");
    assert_eq!(told(&both.cause), "reason: sysrq triggered crash\ncause: \nRIP: \nComm: a b\ncallers:    \n");
}

#[test]
fn of_two_reports_the_first_counts_but_a_warning_is_only_a_prelude() {
    let mut reader = CauseReader::default();
    reader.line(1, b"WARNING: CPU: 3 PID: 77 at lib/refcount.c:28 refcount_warn_saturate+0xd8/0xe0");
    assert_eq!(text(reader.cause.reason.as_bytes()), "WARNING on CPU 3 PID: 77 at lib/refcount.c:2");
    reader.line(2, b"BUG: kernel NULL pointer dereference, address: 0000000000000000");
    reader.line(3, b"BUG: unable to handle page fault for address: ffffc90000000000");
    reader.line(4, b"WARNING: CPU: 1 PID: 1 at kernel/panic.c:1");
    assert_eq!(text(reader.cause.reason.as_bytes()), "NULL deref at 0");
}

proptest! {
    #[test]
    fn any_log_is_read(lines in prop::collection::vec(any_line(), 0..60)) {
        let mut reader = CauseReader::default();
        for (ts_nsec, line) in &lines {
            reader.line(*ts_nsec, line.as_bytes());
        }
        let told = told(&reader.cause);
        prop_assert!(told.bytes().all(|byte| matches!(byte, b'\n' | 0x20..=0x7e)));
    }
}

fn any_line() -> impl Strategy<Value = (u64, String)> {
    let begins = prop::sample::select(vec![
        "",
        "Kernel panic - not syncing: ",
        "BUG: ",
        "Oops: ",
        "RIP: 0010:",
        "Call Trace:",
        " ",
        " ? ",
        "kernel BUG at ",
        "CPU: 0 Comm: ",
        "BUG: kernel NULL pointer dereference, address: 0000",
        "x invoked oom-killer",
        ": 0000 [#1]",
    ]);
    (any::<u64>(), (begins, "\\PC{0,30}"))
        .prop_map(|(ts_nsec, (begin, rest))| (ts_nsec, format!("{begin}{rest}")))
}
