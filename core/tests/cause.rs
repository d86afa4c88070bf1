//! Why a kernel panicked: as the logs of real crashes tell it (`data/log-*.txt`, of crashes in QEMU), in every format of a
//! report (`data/formats.txt`), and whatever a user does to hide it.

mod logs;

use logs::{IN_INTERRUPT, Record, data, logs, parse, pick};

use lastwords_core::crash::{FORMATS, Panicked};
use lastwords_core::report::Cause;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::fs;

/// Records of nobody known, a millisecond apart.
fn anonymous(lines: &[&str]) -> Vec<Record> {
    (0..).zip(lines).map(|(ms, line)| (1_000_000 * ms, None, (*line).to_owned())).collect()
}

/// The same, all written by one.
fn by(caller_id: u32, lines: &[&str]) -> Vec<Record> {
    anonymous(lines).into_iter().map(|(ts_nsec, _, text)| (ts_nsec, Some(caller_id), text)).collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Reason, cause, location, process and callers.
fn told(cause: &Cause) -> [String; 5] {
    let callers = cause.callers.each_ref().map(|caller| text(caller.as_bytes()).to_owned()).join(" ");
    [cause.reason.as_bytes(), cause.report.as_bytes(), cause.rip.as_bytes(), cause.comm.as_bytes()]
        .map(|words| text(words).to_owned())
        .into_iter()
        .chain([callers.trim_end().to_owned()])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[test]
fn every_kind_of_crash_is_told_as_somebody_has_read_it() {
    let mut all = String::new();
    for (name, log) in logs() {
        let (panicked, records) = parse(&log);
        let _ = writeln!(all, "{name}");
        for (what, words) in
            ["reason", "cause", "RIP", "Comm", "callers"].iter().zip(told(&pick(panicked, &records)))
        {
            let _ = writeln!(all, "{}", format!("{what}: {words}").trim_end());
        }
        let _ = writeln!(all);
    }
    let expected = fs::read_to_string(data().join("cause.txt")).unwrap();
    assert_eq!(all, expected, "what is told:\n{all}");
}

#[test]
fn the_reason_is_the_panics_whole_text() {
    let mut panics = 0;
    for (name, log) in logs() {
        let (panicked, records) = parse(&log);
        let panic = records.iter().find_map(|(.., text)| text.strip_prefix("Kernel panic - not syncing: "));
        if let Some(reason) = panic {
            assert_eq!(text(pick(panicked, &records).reason.as_bytes()), reason, "{name}");
            panics += 1;
        }
    }
    assert!(panics >= 30, "{panics}");
}

/// The formats: a name, a log, and what is told of it.
fn formats() -> Vec<(String, Vec<String>, [String; 5])> {
    let file = fs::read_to_string(data().join("formats.txt")).unwrap();
    let mut formats = Vec::new();
    let (mut name, mut lines, mut told) = (String::new(), Vec::new(), Vec::new());
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let sign = line.split(' ').next().unwrap_or_default();
        if let Some(rest) = ["!", "=", "@", "$", "<"].contains(&sign).then(|| line[1..].trim().to_owned()) {
            told.push(rest);
        } else if let Ok(told) = <[String; 5]>::try_from(std::mem::take(&mut told)) {
            formats.push((std::mem::take(&mut name), std::mem::take(&mut lines), told));
        } else if name.is_empty() {
            line.clone_into(&mut name);
        } else {
            lines.push(line.to_owned());
        }
    }
    formats.push((name, lines, told.try_into().unwrap()));
    formats
}

#[test]
fn every_format_of_a_report_is_told() {
    for (name, lines, expected) in formats() {
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(told(&pick(None, &anonymous(&lines))), expected, "{name}");
        let panicked = Panicked { cpu: 9, pid: Some(77) };
        assert_eq!(told(&pick(Some(panicked), &by(77, &lines))), expected, "{name}, written by who panicked");
    }
}

#[test]
fn every_row_of_the_table_has_a_log() {
    let told: Vec<_> = formats().into_iter().map(|(.., [_, cause, ..])| cause).collect();
    for format in FORMATS.iter().filter(|format| !format.short.trim().is_empty()) {
        assert!(told.iter().any(|cause| cause.starts_with(format.short.trim_end())), "{}", format.text);
    }
}

/// What a kernel survives: the row's lines, all but its panic.
fn survived() -> Vec<(String, Vec<String>)> {
    let formats = formats().into_iter().filter(|(_, lines, _)| lines.iter().any(|line| is_panic(line)));
    let formats = formats.filter(|(name, ..)| !name.contains("double fault"));
    formats
        .map(|(name, lines, _)| (name, lines.into_iter().take_while(|line| !is_panic(line)).collect()))
        .collect()
}

fn is_panic(line: &str) -> bool {
    line.starts_with("Kernel panic - not syncing: ")
}

/// On what no kernel goes on.
fn fatal() -> Vec<(String, Vec<String>, [String; 5])> {
    formats().into_iter().filter(|(_, lines, _)| !lines.iter().any(|line| is_panic(line))).collect()
}

/// A second later.
fn later(records: Vec<Record>) -> impl Iterator<Item = Record> {
    records.into_iter().map(|(ts_nsec, caller_id, text)| (ts_nsec + 1_000_000_000, caller_id, text))
}

fn lines(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

#[test]
fn a_fatal_report_replaces_one_that_was_survived_with_all_its_details() {
    let panicked = Panicked { cpu: 0, pid: Some(77) };
    for (before, survived) in survived() {
        for (name, fatal, expected) in fatal() {
            let (one, other) = (lines(&survived), lines(&fatal));
            let both: Vec<_> = anonymous(&one).into_iter().chain(later(anonymous(&other))).collect();
            assert_eq!(told(&pick(None, &both)), expected, "{before}, then {name}");
            let both: Vec<_> = by(77, &one).into_iter().chain(later(by(77, &other))).collect();
            assert_eq!(
                told(&pick(Some(panicked), &both)),
                expected,
                "{before}, then {name}, both by the same"
            );
            let both: Vec<_> = by(78, &one).into_iter().chain(later(by(77, &other))).collect();
            assert_eq!(told(&pick(Some(panicked), &both)), expected, "{before} of another task, then {name}");
            // What follows an oops is its consequence.
            let both: Vec<_> = anonymous(&other).into_iter().chain(later(anonymous(&one))).collect();
            let [reason, cause, ..] = told(&pick(None, &both));
            assert_eq!([&reason, &cause], [&expected[0], &expected[1]], "{name}, then {before}");
        }
    }
}

#[test]
fn without_a_panic_what_was_survived_is_no_reason() {
    for (name, survived) in survived() {
        assert_eq!(told(&pick(None, &anonymous(&lines(&survived))))[0], "", "{name}");
    }
}

#[test]
fn of_two_that_were_survived_the_last_one_counts() {
    let panic = "Kernel panic - not syncing: softlockup: hung tasks";
    let log = [
        "made invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0",
        "CPU: 1 PID: 5 Comm: made Not tainted 6.1.0 #1",
        "watchdog: BUG: soft lockup - CPU#2 stuck for 23s! [other:6]",
        "CPU: 2 PID: 6 Comm: other Not tainted 6.1.0 #1",
        "RIP: 0010:made_loop+0x5/0x20",
        panic,
    ];
    let expected = ["softlockup: hung tasks", "soft lockup CPU#2", "made_loop+5", "other", ""];
    assert_eq!(told(&pick(None, &anonymous(&log))), expected);
}

#[test]
fn exceptions_of_any_name_code_and_count_are_fatal() {
    for (line, expected) in [
        ("divide error: 0000 [#2] SMP", "Oops divide error"),
        ("segment not present: 00d8 [#1]", "Oops segment not present"),
        ("Oops: invalid TSS: ffff [#17] SMP NOPTI", "Oops invalid TSS"),
        ("unexpected #NM exception: 1234 [#1] PREEMPT_{RT,(lazy)} SMP", "Oops unexpected #NM exception"),
        ("Oops: 0011 [#12] PREEMPT SMP KASAN PTI", "Oops"),
    ] {
        let log = ["Kernel tainted", line, "RIP: 0010:made+0x5/0x20"];
        assert_eq!(told(&pick(None, &anonymous(&log))), [expected, expected, "made+5", "", ""], "{line}");
    }
}

/// Text of the kernel's that is no report, and what user processes leave in the log.
const NO_REPORTS: [&str; 31] = [
    "a: 0000 [#1] S\n[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4",
    "traps: a: 0000 [#1] S\n[77] trap divide error ip:55d0 sp:7ffe error:0",
    "UBSAN: a in :1\n[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4",
    "ODEBUG: BUG: free active (active state 0) object type: timer_list hint: made",
    "mce: [Hardware Error]: Machine check events logged",
    "mce: CPU0: Thermal monitoring enabled (TM1)",
    "traps: nginx[77] general protection fault ip:55d0c0ffee sp:7ffe0000 error:0 in nginx[55d0c0000000+1000]",
    "traps: PANIC: double f[77] trap divide error ip:55d0c0ffee sp:7ffe0000 error:0 in a[55d0c0000000+1000]",
    "traps: a: 0000 [#1] b[77] trap invalid opcode ip:55d0c0ffee sp:7ffe0000 error:0",
    "BUG: by alice[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4 in a[55d0c0000000+1000]",
    "kernel BUG at x[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4 in a.c:1![55d0+1000]",
    "kernel BUG at [77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4 in a.c:1!",
    "Oops: 0000 [#1][77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4",
    "Oops: 0000 [#1]: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL), nodemask=(null)",
    "x: 0000 [#1] SM (77): drop_caches: 1",
    "a: 0 [#1] PTI: potentially unexpected fatal signal 11.",
    "process `a: 0 [#1] SMP' is using obsolete setsockopt SO_BSDCOMPAT",
    "WARNING: a:1 at[77] bad frame in rt_sigreturn frame:00007ffe ip:55d0 sp:7ffe orax:ffffffff",
    "WARNING: a:1 at: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL)",
    "INFO: task a:1 [77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4 in blocked for more ",
    "BUG: KASAN: abc[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4 in a+0x1/0x2",
    "UBSAN: a in b:1[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4",
    "refcount_t: abc[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4 in a; [55d0c0000000+1000]",
    "list_a corrupti[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4",
    "tmpfs: Unknown parameter 'kernel BUG at a.c:1!'",
    "tmpfs: Unknown parameter ' invoked oom-killer: gfp_mask=0x0'",
    "BUG: entered promiscuous mode",
    "Oops: renamed from made0",
    "audit: type=1400 audit(1.2:3): apparmor=\"DENIED\" comm=\"kernel BUG at\" name=\"a.c:1!\"",
    "usb 1-1: Product: kernel BUG at a.c:1!",
    "INFO: task made:5 is blocked on a mutex likely owned by task other:6.",
];

#[test]
fn reports_are_not_found_in_the_middle_of_a_line_nor_in_what_users_choose() {
    for line in NO_REPORTS {
        assert_eq!(told(&pick(None, &anonymous(&[line])))[..4], ["", "", "", ""], "{line}");
        let log = ["Kernel panic - not syncing: sysrq triggered crash", line];
        assert_eq!(told(&pick(None, &anonymous(&log)))[..2], ["sysrq triggered crash", ""], "{line}");
    }
}

#[test]
fn text_behind_a_newline_is_not_the_kernels_word() {
    let panicked = Panicked { cpu: 3, pid: Some(77) };
    for forged in ["Kernel panic - not syncing: disk on fire", "kernel BUG at a.c:1!", "Oops: 0000 [#1] SMP"]
    {
        let option = format!("tmpfs: Unknown parameter 'a\n{forged}\n'");
        for who in [None, Some(panicked)] {
            let log = [option.as_str(), "Kernel panic - not syncing: sysrq triggered crash", option.as_str()];
            assert_eq!(
                told(&pick(who, &by(77, &log))),
                ["sysrq triggered crash", "", "", "", ""],
                "{forged}"
            );
            assert_eq!(told(&pick(who, &by(77, &[&option]))), ["", "", "", "", ""], "{forged}");
        }
    }
    // The kernel's own text goes on behind a newline in a name.
    let log = ["INFO: task a\nb:5 blocked for more than 122 seconds.", "Kernel panic - not syncing: x"];
    assert_eq!(told(&pick(None, &anonymous(&log)))[..4], ["x", "hung task", "", "a?b"]);
}

#[test]
fn only_who_panicked_reports_the_panic() {
    let panicked = Some(Panicked { cpu: 3, pid: Some(77) });
    let log =
        |caller_id: u32, reason: &str| by(caller_id, &[&format!("Kernel panic - not syncing: {reason}")]);
    let all = [log(78, "another task"), log(2 | IN_INTERRUPT, "another CPU"), log(77, "the task")].concat();
    assert_eq!(told(&pick(panicked, &all))[0], "the task");
    let all = [log(78, "another task"), log(3 | IN_INTERRUPT, "the CPU"), log(77, "a consequence")].concat();
    assert_eq!(told(&pick(panicked, &all))[0], "the CPU");
    // Whose number is not known may have been any task.
    let unknown = Some(Panicked { cpu: 3, pid: None });
    assert_eq!(
        told(&pick(unknown, &[log(2 | IN_INTERRUPT, "another CPU"), log(78, "a task")].concat()))[0],
        "a task"
    );
}

#[test]
fn a_process_that_is_named_as_an_exception_is_none() {
    // `uses obsolete (PF_INET,SOCK_PACKET)` is what the kernel writes behind the name of whoever opens such a socket.
    for name in ["disk: 0 [#1]", "0 [#1]", "a: 0000 [#9]"] {
        let forged = format!("{name} uses obsolete (PF_INET,SOCK_PACKET)");
        let lines = [
            &forged,
            "BUG: kernel NULL pointer dereference, address: 0000000000000018",
            "RIP: 0010:made+0x5/0x20",
        ];
        assert_eq!(
            told(&pick(None, &anonymous(&lines)))[..3],
            ["NULL deref at 18", "NULL deref at 18", "made+5"]
        );
    }
}

#[test]
fn hours_before_a_line_that_looks_like_a_backtraces_make_a_report_old() {
    for line in [
        "NMI: PCI system error (SERR) for reason a1 on CPU 0.",
        "Code[4242]: segfault at 0 ip 0 sp 0 error 4",
    ] {
        let cpu = Some(IN_INTERRUPT);
        let record = |seconds: u64, text: &str| (seconds * 1_000_000_000, cpu, text.to_owned());
        let warning = "WARNING: CPU: 0 PID: 0 at net/sched/sch_generic.c:525 dev_watchdog+0x207/0x210";
        let records = [
            record(100, warning),
            record(90_000, line),
            record(90_000, "Kernel panic - not syncing: NMI: Not continuing"),
        ];
        let told = told(&pick(Some(Panicked { cpu: 0, pid: Some(0) }), &records));
        assert_eq!(told, ["NMI: Not continuing", "", "", "", ""].map(str::to_owned), "{line}");
    }
}

#[test]
fn what_an_nmi_or_broken_hardware_came_in_between_is_not_blamed() {
    let trace = |reason: &str| {
        let lines = [
            &format!("Kernel panic - not syncing: {reason}"),
            "CPU: 3 PID: 77 Comm: postgres Not tainted 6.1.0 #1",
            "Call Trace:",
            " <NMI>",
            " made_handler+0x1/0x2",
            " end_repeat_nmi+0x1/0x2",
            "RIP: 0010:bystander+0x6/0x20",
            " </NMI>",
            " bystanders_caller+0x1/0x2",
        ];
        lines.map(str::to_owned)
    };
    let check = |before: &[&str], reason: &str, expected: [&str; 5]| {
        let mut lines: Vec<_> = before.iter().map(|line| (*line).to_owned()).collect();
        lines.extend(trace(reason));
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(told(&pick(None, &anonymous(&lines))), expected.map(str::to_owned));
    };
    let callers = "made_handler end_repeat_nmi";
    check(&[], "NMI: Not continuing", ["NMI: Not continuing", "", "", "postgres", callers]);
    let ghes =
        ["{1}[Hardware Error]: event severity: fatal", "{1}[Hardware Error]:   section_type: PCIe error"];
    let fatal = "Fatal hardware error!";
    check(&ghes, fatal, [fatal, "hardware error PCIe error", "", "", ""]);
    let mce = ["mce: [Hardware Error]: CPU 17: Machine Check Exception: 4 Bank 4: b200000000100402"];
    let fatal = "Fatal machine check";
    check(&mce, fatal, [fatal, "machine check bank 4 b200000000100402", "", "", ""]);
}

#[test]
fn a_list_of_tasks_over_a_slow_line_does_not_make_the_oom_killers_report_old() {
    let record = |seconds: u64, text: &str| (seconds * 1_000_000_000, None, text.to_owned());
    let mut records = vec![record(100, "java invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0")];
    records.extend((101..150).map(|at| {
        record(at, "[    500]     0   500     2345      123    45056        0             0 made")
    }));
    records
        .push(record(150, "Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled"));
    assert_eq!(told(&pick(None, &records))[1], "oom-killer");
}

#[test]
fn what_was_reported_long_before_is_another_matter() {
    let (_, oops, _) = &fatal()[0];
    let panic = by(
        5,
        &["Kernel panic - not syncing: sysrq triggered crash", "CPU: 0 PID: 5 Comm: a b Not tainted 6.1"],
    );
    let expected = ["sysrq triggered crash", "", "", "a b", ""];
    let at = |seconds: u64, (ts_nsec, _, text): Record| (ts_nsec + seconds * 1_000_000_000, None, text);
    let mut log: Vec<_> = anonymous(&lines(oops)).into_iter().map(|record| at(0, record)).collect();
    let survived = log.clone();
    log.extend(panic.iter().cloned().map(|record| at(3600, record)));
    assert_eq!(told(&pick(None, &log)), expected, "an hour");
    // Something else happens meanwhile, twice a second.
    let mut log = survived;
    log.extend(
        (1..70).map(|half| (half * 500_000_000, None, "IPv6: ADDRCONF(NETDEV_CHANGE): made0".to_owned())),
    );
    log.extend(panic.into_iter().map(|record| at(35, record)));
    assert_eq!(told(&pick(None, &log)), expected, "35 s");
}

#[test]
fn a_slow_lines_backtraces_make_no_report_old() {
    let lockup = "watchdog: BUG: soft lockup - CPU#2 stuck for 23s! [made:77]";
    let mut log = vec![(100_000_000_000, None, lockup.to_owned())];
    let trace = [
        "CPU: 2 PID: 77 Comm: made Not tainted 6.1.0 #1",
        "Hardware name: None",
        "RIP: 0010:made_loop+0x5/0x20",
        "Code: 00 00",
        "RSP: 0018:ffffc90000123e58 EFLAGS: 00010246",
        "R10: 0000000000000000 R11: 0000000000000000 R12: 0000000000000000",
        "FS:  0000000000000000(0000) GS:ffff88807ec00000(0000) knlGS:0000000000000000",
        "CR2: 0000000000000000 CR3: 0000000000000000 CR4: 00000000000006f0",
        "Call Trace:",
        " <TASK>",
        " made_outer+0x1/0x2",
        " </TASK>",
        "Sending NMI from CPU 2 to CPUs 0-1,3:",
        "NMI backtrace for cpu 0",
    ];
    for (tenths, line) in (1..400).zip(trace.iter().cycle()) {
        log.push((100_000_000_000 + tenths * 100_000_000, None, (*line).to_owned()));
    }
    log.push((140_000_000_000, None, "Kernel panic - not syncing: softlockup: hung tasks".to_owned()));
    let expected = ["softlockup: hung tasks", "soft lockup CPU#2", "made_loop+5", "made", "made_outer"];
    assert_eq!(told(&pick(None, &log)), expected);
}

#[test]
fn short_forms_fit() {
    for (name, _, [_, cause, location, ..]) in formats() {
        assert!(cause.len() < 48, "{name}: {cause}");
        assert!(
            !cause.contains("BUG: ") && !cause.contains("PID: ") && !cause.contains('/'),
            "{name}: {cause}"
        );
        assert!(location.len() < 64 && !location.contains('/'), "{name}: {location}");
    }
}

proptest! {
    #[test]
    fn whatever_users_write_the_reason_and_the_cause_are_said(
        which in any::<prop::sample::Index>(),
        forged in prop::collection::vec((any_callers(), any_users_text(), any::<prop::sample::Index>()), 0..8),
    ) {
        // Who panicked is the user's own process.
        let panicked = Panicked { cpu: 3, pid: Some(77) };
        let (_, log, expected) = which.get(&formats()).clone();
        let mut records = by(77, &lines(&log));
        for (caller_id, text, at) in forged {
            // Others write at any time. The process itself can not before the report is out, nor between what the kernel
            // says for it.
            let at = if caller_id == 77 { 0 } else { at.index(records.len() + 1) };
            records.insert(at, (0, Some(caller_id), text));
        }
        prop_assert_eq!(told(&pick(Some(panicked), &records)), expected);
    }

    #[test]
    fn two_cpus_reports_are_told_apart_however_they_interleave(
        which in any::<[prop::sample::Index; 2]>(),
        order in prop::collection::vec(any::<bool>(), 100),
    ) {
        let all = formats();
        let [(_, own, expected), (_, others, _)] = which.map(|which| which.get(&all).clone());
        // The other one does not get as far as to panic.
        let others: Vec<_> = others.into_iter().take_while(|line| !is_panic(line)).collect();
        let (mut own, mut others) = (by(77, &lines(&own)).into_iter(), by(78, &lines(&others)).into_iter());
        let mut records = Vec::new();
        for first in order {
            records.extend(if first { own.next() } else { others.next() });
        }
        records.extend(own);
        let panicked = Panicked { cpu: 3, pid: Some(77) };
        prop_assert_eq!(told(&pick(Some(panicked), &records)), expected);
    }

    #[test]
    fn any_log_is_read(records in prop::collection::vec(any_record(), 0..60), cpu in 0u32..3, pid in any::<Option<u8>>()) {
        let panicked = Panicked { cpu, pid: pid.map(u32::from) };
        for who in [None, Some(panicked)] {
            let told = told(&pick(who, &records));
            prop_assert!(told.iter().flat_map(|text| text.bytes()).all(|byte| matches!(byte, 0x20..=0x7e)));
        }
    }
}

/// The panicked process, other ones, and CPUs in interrupts.
fn any_callers() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![77, 78, 1, IN_INTERRUPT, 1 | IN_INTERRUPT])
}

/// What an unprivileged user can have the kernel write: a name of his process or network device where it begins the
/// line, or any text further behind, with newlines in each.
fn any_users_text() -> impl Strategy<Value = String> {
    let reports: Vec<String> = formats().into_iter().flat_map(|(_, lines, _)| lines).collect();
    let anything = prop_oneof![prop::sample::select(reports), "[ -~\n]{0,60}", any_name_and_text()];
    let behind = prop::sample::select(vec![
        "[77]: segfault at 0 ip 000055d0c0ffee sp 00007ffe0000 error 4 in ",
        ": page allocation failure: order:0, mode:0xcc0(GFP_KERNEL), nodemask=(null),cpuset=",
        "[77] bad frame in rt_sigreturn frame:00007ffe ip:55d0 sp:7ffe orax:ffffffff in ",
        ": potentially unexpected fatal signal 11.",
    ]);
    let before = prop::sample::select(vec![
        "tmpfs: Unknown parameter '",
        "traps: ",
        "process '",
        "usb 1-1: Product: ",
        "audit: type=1400 audit(1.2:3): comm=",
        "warning: `",
    ]);
    prop_oneof![
        (any_name(), behind, anything.clone())
            .prop_map(|(name, behind, text)| format!("{name}{behind}{text}")),
        (before, "[a-z]{0,3}\n?", anything).prop_map(|(before, more, text)| {
            // Behind `traps: ` and the like a name only.
            let text = if before.len() < 12 { text.chars().take(15).collect() } else { text };
            let end = if before.len() < 12 { "[77] trap divide error ip:55d0 sp:7ffe error:0" } else { "'" };
            format!("{before}{}{text}{end}", if before.len() < 12 { "" } else { &more })
        }),
    ]
}

/// A process' name: fifteen letters that look like a report's beginning.
fn any_name() -> impl Strategy<Value = String> {
    let reports: Vec<String> = formats().into_iter().flat_map(|(_, lines, _)| lines).collect();
    let short = [
        "kernel BUG at ",
        "Oops: 0000 [#1]",
        "a: 0000 [#1] S",
        "WARNING: a:1 at",
        "BUG: KASAN: a i",
        "INFO: task a:1 ",
        "PANIC: double f",
    ];
    prop_oneof![
        prop::sample::select(reports).prop_map(|line| line.chars().take(15).collect()),
        prop::sample::select(short.to_vec()).prop_map(str::to_owned),
        "[ -~\n]{0,15}",
    ]
}

fn any_name_and_text() -> impl Strategy<Value = String> {
    (any_name(), "[ -~\n]{0,20}").prop_map(|(name, text)| format!("{name}{text}"))
}

fn any_record() -> impl Strategy<Value = Record> {
    let lines: Vec<String> = formats().into_iter().flat_map(|(_, lines, _)| lines).collect();
    let caller_id =
        prop::option::of(prop_oneof![0u32..3, any::<u32>(), (0u32..3).prop_map(|cpu| cpu | IN_INTERRUPT)]);
    let begins = prop::sample::select(vec![
        "",
        "Kernel panic - not syncing: ",
        "Oops: ",
        " ",
        "CPU: 0 Comm: ",
        "RIP: 0010:",
    ]);
    let text = prop_oneof![
        prop::sample::select(lines),
        (begins, "\\PC{0,30}").prop_map(|(begin, rest)| begin.to_owned() + &rest)
    ];
    (any::<u64>(), caller_id, text)
}
