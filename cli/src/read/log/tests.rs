//! Logs as tools write them, whole and damaged.

use super::{listing::LINE, numbers::LOOKED, *};
use crate::read::crash::{Crash, Text, crashes};
use lastwords_core::{
    report::{Line, Location},
    store::sel::{self, TEXT_LEN},
};
use proptest::{collection::vec, prelude::*};

fn crashes_of(text: &str) -> Vec<Crash> {
    crashes(&Log::parse(text.as_bytes()).unwrap())
}

/// A listing of `ipmitool sel list`.
fn list(lines: &[&str]) -> String {
    let letter = lines[0].as_bytes()[0];
    let event = format!(
        "1 | 11/22/2026 | 16:17:10 | OS Critical Stop #0x{letter:02x} | Run-time critical stop | Asserted\n"
    );
    let records = lines.iter().flat_map(|line| line.as_bytes().chunks(TEXT_LEN));
    records.fold(event, |list, chunk| {
        format!("{list}   2 | Linux kernel panic: {}\n", String::from_utf8_lossy(chunk))
    })
}

#[test]
fn lines_that_fill_their_records_are_told_apart() {
    let lines = [
        "exactly 11c",
        "id 5f3e9a1b",
        "1=@c0263005",
        "cause of 11",
        "RIP of_22_charact+12ab",
        "Comm kthrea",
        "2*@c0264000",
        "11*@ffffc90000001234",
        "1*@c0265000",
        "+1f",
        "< eleven_ch",
        "< more",
    ];
    let [crash] = &crashes_of(&list(&lines))[..] else { panic!() };
    let text = |text: &Option<Text>| text.as_ref().unwrap().to_string();
    assert_eq!(text(&crash.reason), "exactly 11c");
    assert_eq!(crash.build_id, Some(0x5f3e9a1b));
    assert_eq!(text(&crash.cause), "cause of 11");
    assert_eq!(text(&crash.location), "of_22_charact+0x12ab");
    assert_eq!(text(&crash.process), "kthrea");
    assert_eq!(crash.groups.len(), 3);
    assert_eq!(crash.left_out, 0x1f);
    assert_eq!(crash.call_trace.len(), 2);
    assert_eq!((crash.missing, crash.unparsed.len()), (0, 0));
}

#[test]
fn a_second_build_id_is_another_crash() {
    let twice = list(&["id 5f3e9a1b", "1=10", "id 5f3e9a1b", "2=20"]);
    assert_eq!(crashes_of(&twice).len(), 2);
}

#[test]
fn sixteen_bytes_in_hex_are_a_record() {
    let words = "00 00 f0 20 80 69 64 20 35 66 33 65 39 61 31 62\n";
    for text in [words.to_owned(), words.replace(' ', ", 0x"), format!("Record:\r\n {words}")] {
        assert_eq!(crashes_of(&text)[0].build_id, Some(0x5f3e9a1b), "{text}");
    }
    assert_eq!(Log::parse(b"00 00 f0 20 80 69 64 20 35 66 33 65 39 61 31\n"), Err(LogError::Unknown));
}

#[test]
fn a_raw_sel_that_is_cut_says_so() {
    let mut raw = sel::records(b"id 5f3e9a1b", 0).next().unwrap().to_vec();
    raw.extend([0; 7]);
    let log = Log::parse(&raw).unwrap();
    assert_eq!((log.entries.len(), log.notes.contains(Note::PartOfRecord)), (1, true));
}

#[test]
fn what_is_no_sel_is_refused_with_a_hint() {
    let hint = |bytes: &[u8]| {
        let error = Log::parse(bytes).unwrap_err().to_string();
        error.split_once("\nhint: ").unwrap().1.to_owned()
    };
    assert_eq!(hint(b"\x1f\x8b\x08\x08zZ\x07k"), "gunzip -c FILE | lastwords read --file -");
    for foreign in [
        &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0"[..],
        &[7; 160],
        &[0; 64],
        b"\0",
        b"hello",
        b"\x26\x10\0\x38\x01\x15\x20\xff\xa8\x0c\0\0\0\0\0\0\0\0",
    ] {
        assert_eq!(hint(foreign), "ipmitool sel writeraw FILE", "{foreign:?}");
    }
    for failed in ["Get SEL Info command failed", "Error: Unable to establish IPMI v2 / RMCP+ session"] {
        assert_eq!(Log::parse(failed.as_bytes()), Err(LogError::Failed));
    }
    let saved = b"0x04 0x20 0x73 0x6f 0xa1 0x79 0x73 # OS Critical Stop #0x73 Run-time critical stop\n";
    assert_eq!(Log::parse(saved), Err(LogError::Save));
}

/// The crash's build id, where the text is that of one crash.
fn build_id(bytes: &[u8]) -> Option<u32> {
    let [crash] = &crashes(&Log::parse(bytes).unwrap())[..] else { panic!() };
    crash.build_id
}

#[test]
fn a_listing_is_read_in_any_encoding_and_with_nuls_behind_it() {
    let list = list(&["id 5f3e9a1b"]);
    let units: Vec<_> = list.encode_utf16().collect();
    let wide =
        |to_bytes: fn(u16) -> [u8; 2]| units.iter().flat_map(|unit| to_bytes(*unit)).collect::<Vec<_>>();
    let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
    let with_mark = |mark: &[u8], text: &[u8]| [mark, text].concat();
    for bytes in [
        with_mark(b"\xff\xfe", &little),
        with_mark(b"\xfe\xff", &big),
        little,
        big,
        with_mark(list.as_bytes(), &[0; 100]),
    ] {
        assert_eq!(build_id(&bytes), Some(0x5f3e_9a1b), "{bytes:?}");
    }
}

#[test]
fn a_japanese_date_is_a_date() {
    let list = list(&["id 5f3e9a1b"]).replace("11/22/2026 | 16:17:10", "2026年11月22日 | 16時17分10秒");
    let [crash] = &crashes_of(&list)[..] else { panic!() };
    assert_eq!(crash.time.as_ref().unwrap().to_string(), "2026-11-22 16:17:10");
}

#[test]
fn an_ipmi_sel_listing_needs_no_header() {
    let rows = "\
1  | Nov-22-2026 | 23:26:40 | Sensor #48       | Temperature              | Upper Non-critical - going high
7  | N/A         | N/A      | N/A              | N/A                      | OEM defined = 20h 80h 69h 64h 20h 35h 66h 33h 65h 39h 61h 31h 62h
";
    assert_eq!(build_id(rows.as_bytes()), Some(0x5f3e_9a1b));
    assert_eq!(build_id(rows.replace(" | ", ",").as_bytes()), Some(0x5f3e_9a1b));
}

#[test]
fn answers_to_get_sel_entry_are_records() {
    let in_one = " 02 00 01 00 f0 20 80 69 64 20 35 66 33 65 39 61 31 62\n";
    let broken = " 02 00 01 00 f0 20 80 69 64 20 35 66 33 65 39 61\n 31 62\n";
    let freeipmi = "rcvd: 43 00 02 00 01 00 F0 20 80 69 64 20 35 66 33 65 39 61 31 62\n";
    for text in [in_one, broken, freeipmi] {
        assert_eq!(build_id(text.as_bytes()), Some(0x5f3e_9a1b), "{text}");
    }
    // Its prefix is no host.
    let logs = Log::hosts(freeipmi.as_bytes(), &mut |host, _| panic!("{host}")).unwrap();
    assert_eq!((logs.len(), &logs[0].0, logs[0].1.entries.len()), (1, &None, 1));
}

#[test]
fn a_first_records_id_may_be_what_another_kind_of_file_begins_with() {
    for id in [*b"MZ", *b"\x1f\x8b"] {
        let mut record = sel::records(b"id 5f3e9a1b", 0).next().unwrap();
        record[..2].copy_from_slice(&id);
        assert!(begins_with_id(&record));
        assert_eq!(Log::parse(&record).unwrap().entries.len(), 1, "{id:x?}");
    }
}

#[test]
fn several_hosts_in_one_stream_are_told_apart() {
    let list = |id: &str| list(&[id]);
    let (one, other) = (list("id 5f3e9a1b"), list("id 00c0ffee"));
    let prefixed = |host: &str, text: &str| -> Vec<String> {
        text.lines().map(|line| format!("{host}: {line}")).collect()
    };
    // pdsh hands lines on as they come.
    let (ones, others) = (prefixed("bmc1", &one), prefixed("bmc2.example", &other));
    let mixed = ones.iter().zip(&others).flat_map(|(one, other)| [one, other]);
    let mixed: String =
        mixed.chain([&"bmc3: connection timeout".to_owned()]).flat_map(|line| [line, "\n"]).collect();
    let rule = "-".repeat(16);
    let titled = format!("{rule}\nbmc1\n{rule}\n{one}{rule}\nbmc2.example\n{rule}\n{other}");
    for text in [mixed, titled] {
        let logs = Log::hosts(text.as_bytes(), &mut |host, _| assert_eq!(host, "bmc3")).unwrap();
        let ids =
            logs.iter().map(|(host, log)| (host.as_deref(), crashes(log)[0].build_id)).collect::<Vec<_>>();
        assert_eq!(ids, [(Some("bmc1"), Some(0x5f3e_9a1b)), (Some("bmc2.example"), Some(0x00c0_ffee))]);
    }
    let alone = Log::hosts(one.as_bytes(), &mut |_, _| panic!()).unwrap();
    assert!(matches!(&alone[..], [(None, _)]));
    assert_eq!(Log::hosts(b"a: b\n", &mut |_, _| {}), Err(LogError::Unknown));
}

#[test]
fn a_line_that_is_longer_than_any_of_a_listing_is_passed_over() {
    let with = |len: usize| {
        let line = list(&["id 5f3e9a1b"]);
        let long = format!("3 | {}", "|".repeat(len));
        Log::parse(format!("{line}{long}\n").as_bytes()).unwrap().entries.len()
    };
    assert_eq!((with(40), with(1 << 20)), (2, 2));
    let only = format!("1 | 11/22/26 | 10:00:00 | Fan #0x30 | {}\n", " ".repeat(LINE));
    assert_eq!(Log::parse(only.as_bytes()), Err(LogError::Unknown));
}

#[test]
fn lines_of_one_crash_cost_what_they_are_many() {
    let looked = |lines: usize| {
        LOOKED.set(0);
        let log = Log::parse(
            "2 | Linux kernel panic: aaaaaaaaaaa\n3 | Linux kernel panic: bbbbbbbbbbb\n"
                .repeat(lines / 2)
                .as_bytes(),
        )
        .unwrap();
        assert_eq!(log.entries.len(), lines);
        LOOKED.get()
    };
    let (once, four_times) = (looked(1000), looked(4000));
    assert!(once > 0 && four_times * 10 <= once * 44, "{once} bytes, for four times as much {four_times}");
}

#[test]
fn a_listing_with_odd_bytes_is_a_listing() {
    let with_mark = format!("\u{feff}{}\x07\n", list(&["id 5f3e9a1b"]));
    assert_eq!(crashes_of(&with_mark)[0].build_id, Some(0x5f3e9a1b));
}

/// Words that look like no other line at any of their records.
fn text() -> impl Strategy<Value = String> {
    "[g-z]{2,9}( [g-z]{2,9}){0,5}"
}

proptest! {
    #[test]
    fn a_listing_is_joined_to_what_was_written(
        reason in text(), cause in text(), name in "[g-z]{1,20}", offset in 0..0x10000u32,
        cpus in vec((1..2000u32, prop_oneof![
            any::<u32>().prop_map(Location::Kernel),
            (0xffff_ffff_c000_0000..0xffff_ffff_ff00_0000u64).prop_map(Location::Address),
        ]), 0..5),
    ) {
        let rip = format!("{name}+{offset:x}");
        let comm = name.chars().take(15).collect::<String>();
        let mut lines = vec![
            Line::Reason(reason.as_bytes()), Line::BuildId(7), Line::Cause(cause.as_bytes()),
            Line::Rip(rip.as_bytes()), Line::Comm(comm.as_bytes()),
        ];
        lines.extend(cpus.iter().map(|(count, location)| Line::Group { count: *count, location: *location }));
        lines.push(Line::Caller(name.as_bytes()));
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(sel::text(*line).as_bytes()).into_owned()).collect();
        let from_list = crashes_of(&list(&lines.iter().map(String::as_str).collect::<Vec<_>>()));
        let mut records = vec![sel::event_record([reason.as_bytes()[0], 0, 0])];
        for line in &lines {
            records.extend(sel::records(line.as_bytes(), records.len() as u8 - 1));
        }
        let mut from_records = crashes(&records.into_iter().collect());
        from_records[0].time.clone_from(&from_list[0].time);
        prop_assert_eq!(from_list, from_records);
    }

    #[test]
    fn any_file_is_taken_or_refused(lines in vec(prop_oneof![
        ".{0,60}",
        "( {0,3}[0-9a-f]{1,3} )?[|,] (Linux kernel panic: )?.{0,12}",
        "[0-9a-f]{1,3} \\| 11/22/26 \\| [0-9:]{0,8} UTC \\| OS Critical Stop( #0x[0-9a-f]{2})? \\| Run-time critical stop",
        " ?(SEL Record ID|Panic string|Event Data|Sensor Number|Timestamp|Description) *: ?.{0,12}",
        "RID:(\\[[0-9A-F]{2}\\] ?){0,17}",
        "ID ?[|,] Date [|,] Event", "[0-9]{1,3} ?[|,] (N/A|Nov-23-2026) ?[|,] ?(OEM defined|Run-time Critical Stop).{0,40}",
    ], 0..40), bytes in vec(any::<u8>(), 0..100)) {
        if let Ok(log) = Log::parse(lines.join("\n").as_bytes()) {
            let _ = crashes(&log);
        }
        let _ = Log::parse(&bytes);
    }
}

/// A row of `ipmitool sel list` with this text.
fn row(id: usize, text: &str) -> String {
    format!("{id:4x} | Linux kernel panic: {text}\n")
}

/// The texts of records as `ipmitool sel list` shows them, without any platform event.
fn texts(lines: &[&str]) -> String {
    let records = lines.iter().flat_map(|line| line.as_bytes().chunks(TEXT_LEN));
    records.zip(1..).map(|(chunk, id)| row(id, &String::from_utf8_lossy(chunk))).collect()
}

fn reasons(crashes: &[Crash]) -> Vec<String> {
    crashes.iter().map(|crash| crash.reason.as_ref().map_or(String::new(), ToString::to_string)).collect()
}

#[test]
fn without_platform_events_what_a_dump_kernel_said_or_a_second_build_id_ends_a_crash() {
    let first = ["sysrq triggered crash", "id eb4fbcd0", "0=9c2a36", "#0123456789", "3*103f0"];
    let second = ["Fatal exception", "id eb4fbcd0", "3=1741ba", "NULL deref at 18", "< do_one_initcall"];
    for between in [
        &[][..],
        &["< eleven_chars_more"],
        &["< abcdefghijklmnopqrst"],
        &["dump start"],
        &["dump start", "dump saved"],
        &["dump start", "dump failed", "why No space left on device"],
    ] {
        let of_both = crashes_of(&texts(&[&first, between, &second].concat()));
        assert_eq!(reasons(&of_both), ["sysrq triggered crash", "Fatal exception"], "{between:?}");
        let counts: Vec<_> = of_both.iter().map(|crash| crash.groups.len()).collect();
        assert_eq!((counts, of_both[1].call_trace.len()), (vec![1, 0], 1));
        assert!(of_both.iter().all(|crash| crash.unparsed.is_empty() && crash.missing == 0), "{of_both:?}");
    }
}

#[test]
fn a_record_that_is_there_twice_is_told_once_and_a_function_that_calls_itself_twice() {
    let lines = ["Fatal exception", "id 5f3e9a1b", "2*user", "< do_one_initcall", "< again", "< again"];
    let once = texts(&lines);
    let told = crashes_of(&once);
    assert_eq!(told[0].call_trace.len(), 3);
    let rows: Vec<_> = once.split_inclusive('\n').collect();
    for at in 0..rows.len() - 2 {
        let twice: String = rows[..=at].iter().chain(&rows[at..]).copied().collect();
        let mut found = crashes_of(&twice);
        found[0].first_record = told[0].first_record;
        assert_eq!(found, told, "{twice}");
    }
}

#[test]
fn what_is_shown_newest_first_is_read_oldest_first() {
    let plain = list(&["Fatal exception", "id 5f3e9a1b", "2*user"]).replacen("1 |", "0 |", 1);
    let rows: Vec<_> = plain.split_inclusive('\n').collect();
    let number = |(id, row): (usize, &&str)| format!("{id}{}", &row[row.find(" |").unwrap()..]);
    let ascending: Vec<_> = (1..).zip(&rows).map(number).collect();
    let newest_first: String = ascending.iter().rev().map(String::as_str).collect();
    assert_eq!(crashes_of(&newest_first), crashes_of(&ascending.concat()));
    assert_eq!(crashes_of(&newest_first).len(), 1);
}

#[test]
fn blanks_that_a_tool_took_from_the_ends_of_lines_are_put_back_and_marks_round_columns_may_be_any_blank() {
    let lines = ["NULL deref at 18", "id 5f3e9a1b", "dump failed", "why no space on device"];
    let plain = texts(&lines);
    let trimmed: String = plain.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    assert_ne!(plain, trimmed);
    for text in [&trimmed, &plain.replace(" |", "\t|\t"), &plain.replace("| ", "|\u{a0}")] {
        assert_eq!(crashes_of(text), crashes_of(&plain), "{text}");
    }
}

#[test]
fn what_a_tool_says_of_its_failure_is_a_note() {
    let plain = texts(&["Fatal exception", "id 5f3e9a1b"]);
    for failure in [
        "Get SEL Entry 3 command failed: Unspecified error",
        "ipmi-sel: session timeout",
        "ipmi_cmd_get_sel_entry: driver timeout",
        "Error: Unable to establish IPMI v2 / RMCP+ session",
    ] {
        let log = Log::parse(format!("{plain}{failure}\n").as_bytes()).unwrap();
        assert!(log.notes.contains(Note::Failed) && log.notes.is_cut(), "{failure}");
        assert_eq!(log.entries.len(), Log::parse(plain.as_bytes()).unwrap().entries.len());
    }
    assert!(!Log::parse(plain.as_bytes()).unwrap().notes.is_cut());
}

#[test]
fn lines_that_have_lost_their_ends_are_a_note() {
    let header = "ID | Date        | Time     | Name             | Type                     | Event\n";
    let oem =
        "7  | N/A | N/A | N/A | N/A | OEM defined = 20h 80h 69h 64h 20h 35h 66h 33h 65h 39h 61h 31h 62h\n";
    let whole = format!("{header}{oem}");
    assert!(!Log::parse(whole.as_bytes()).unwrap().notes.is_cut());
    // What it begins with may be all there is of a text.
    for end in (header.len() + "7  |".len()..whole.len() - 1)
        .filter(|end| !whole[..*end].trim_end().ends_with("N/A |"))
    {
        for line_end in ["", "\n"] {
            let log = Log::parse(format!("{}{line_end}", &whole[..end]).as_bytes()).unwrap();
            assert!(crashes(&log).is_empty(), "{}: {log:?}", &whole[..end]);
            let note = if line_end.is_empty() { Note::OpenEnd } else { Note::CutLines };
            assert!(log.notes.contains(note), "{}{line_end:?}", &whole[..end]);
        }
    }
    // Blanks behind the last line are no line.
    assert!(
        !Log::parse(format!("{}  ", texts(&["Fatal exception", "id 5f3e9a1b"])).as_bytes())
            .unwrap()
            .notes
            .is_cut()
    );
    // Where the header's end is lost, or there is none.
    let row = |columns: usize| oem.split('|').take(columns).collect::<Vec<_>>().join("|");
    for text in
        [format!("{}\n{}\n", header.split_once(" | Event").unwrap().0, row(5)), format!("{}\n", row(5))]
    {
        let log = Log::parse(text.as_bytes()).unwrap();
        assert!(crashes(&log).is_empty() && log.notes.contains(Note::CutLines), "{text}");
    }
    // Enough of a panic's event is left to know it.
    let event = "1 | 11/22/26 | 14:00:00 UTC | OS Critical Stop #0x46 | Run-time critica\n";
    assert_eq!(crashes_of(event).len(), 1);
}

#[test]
fn an_empty_file_says_that_it_is_empty() {
    for empty in [&b""[..], b" \r\n"] {
        let log = Log::parse(empty).unwrap();
        assert!(log.entries.is_empty() && log.notes.contains(Note::Empty) && log.notes.is_cut());
    }
    assert!(!Log::parse(b"SEL has no entries\n").unwrap().notes.contains(Note::Empty));
}

#[test]
fn why_a_dump_failed_is_told_whole_amid_events_and_where_each_row_is_there_twice() {
    let lines = [
        "Fatal exception",
        "id 5f3e9a1b",
        "hard LOCKUP on CPU 11",
        "dump failed",
        "why No space left on device",
    ];
    let plain = texts(&lines);
    let told = crashes_of(&plain);
    assert_eq!(told[0].why.as_ref().unwrap().to_string(), "No space left on device");
    let fan = "1 | 11/22/26 | 14:16:50 UTC | Temperature #0x31 | Upper Non-critical going high | Asserted\n";
    let rows: Vec<_> = plain.split_inclusive('\n').collect();
    for at in 0..rows.len() {
        let (before, behind) = (rows[..at].concat(), rows[at..].concat());
        assert_eq!(crashes_of(&format!("{before}{fan}{behind}")), told, "{before}");
        let twice = format!("{before}{}{behind}", rows[at]);
        assert_eq!(crashes_of(&twice), told, "{twice}");
    }
    assert_eq!(crashes_of(&rows.iter().flat_map(|row| [*row, *row]).collect::<String>()), told);
    let list = list(&["Fatal exception", "id 5f3e9a1b"]);
    assert_eq!(crashes_of(&format!("{list}{}", rows[rows.len() - 4..].concat())).len(), 1);
}

#[test]
fn numbers_of_lines_are_no_hosts_and_a_line_may_have_several_records() {
    let list = list(&["Fatal exception", "id 5f3e9a1b"]);
    let numbered: String = (1..)
        .zip(list.lines())
        .flat_map(|(at, line)| [at.to_string(), ": ".to_owned(), line.to_owned(), "\n".to_owned()])
        .collect();
    assert_eq!(Log::hosts(numbered.as_bytes(), &mut |_, _| {}), Err(LogError::Unknown));
    let records: Vec<_> = sel::records(b"Fatal exception in interrupt", 0).collect();
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |line, byte| format!("{line}{byte:02x} "));
    let line = hex(records[..2].as_flattened());
    let log = Log::parse(format!("{line}\n{}\n", hex(&records[2])).as_bytes()).unwrap();
    assert_eq!(log, records.into_iter().collect());
}

#[test]
fn answers_in_two_lines_may_have_empty_ones_between() {
    let broken = " 02 00 01 00 f0 20 80 69 64 20 35 66 33 65 39 61\r\n\r\n 31 62\r\n\r\n";
    assert_eq!(build_id(broken.as_bytes()), Some(0x5f3e_9a1b));
}

#[test]
fn midnight_and_noon_are_half_a_day_apart() {
    let times = ["12:59:50 AM", "01:00:00 AM", "12:59:50 PM", "01:00:00 PM"].map(|time| {
        let row = list(&["id 5f3e9a1b"]).replace("16:17:10", time);
        let [_, _, _, t0, t1, t2, t3, ..] = Log::parse(row.as_bytes()).unwrap().entries[0].record;
        u32::from_le_bytes([t0, t1, t2, t3]) % 86400
    });
    assert_eq!(times, [3590, 3600, 46790, 46800]);
}

/// Each line with this in front.
fn behind(prefix: &str, text: &str) -> String {
    text.lines().flat_map(|line| [prefix, line, "\n"]).collect()
}

#[test]
fn hosts_are_told_apart_by_the_titles_and_prefixes_of_tools_for_many_hosts() {
    let (one, other) = (list(&["NULL deref at 18", "id 5f3e9a1b"]), list(&["id 00c0ffee"]));
    let prefixed = |host: &str, text: &str| behind(&format!("{host}: "), text);
    let indented = |text: &str| behind("    ", text);
    for (names, text) in [
        (["db04", "db05"], format!("[1] 13:22:11 [SUCCESS] db04\n{one}[2] 13:22:12 [SUCCESS] db05\n{other}")),
        (["db04", "db05"], format!("db04 | CHANGED | rc=0 >>\n{one}\ndb05 | SUCCESS | rc=0 >>\n{other}")),
        (["db04", "db05"], format!("db04:\n{}db05:\n{}", indented(&one), indented(&other))),
        (["127.0.0.1:7001", "[::1]:623"], prefixed("127.0.0.1:7001", &one) + &prefixed("[::1]:623", &other)),
        (["fe80::1%eth0", "u@h"], prefixed("fe80::1%eth0", &one) + &prefixed("u@h", &other)),
    ] {
        let logs = Log::hosts(text.as_bytes(), &mut |host, _| panic!("{host}")).unwrap();
        let told: Vec<_> = logs.iter().map(|(host, log)| (host.as_deref().unwrap(), crashes(log))).collect();
        assert_eq!(told, [(names[0], crashes_of(&one)), (names[1], crashes_of(&other))], "{text}");
    }
}

#[test]
fn a_host_where_the_command_failed_is_no_host_without_crashes() {
    let one = list(&["id 5f3e9a1b"]);
    for failed in [
        "[2] 13:22:12 [FAILURE] db05 Exited with error code 1\n",
        "db05 | UNREACHABLE! => {\n    \"msg\": \"Failed to connect\"\n}\n",
        "db05 | FAILED | rc=1 >>\nUnable to open /dev/ipmi0\n",
        "pdsh@admin: db05: ssh exited with exit code 255\n",
    ] {
        let title = if failed.starts_with("pdsh") { "" } else { "[1] 13:22:11 [SUCCESS] db04\n" };
        let lines = behind("db04: ", &one);
        let text = format!("{title}{}{failed}", if title.is_empty() { &lines } else { &one });
        let mut refused = Vec::new();
        let logs = Log::hosts(text.as_bytes(), &mut |host, _| refused.push(host.to_owned())).unwrap();
        assert_eq!((logs.len(), refused), (1, vec!["db05".to_owned()]), "{text}");
    }
}

/// Is what is told of a cut listing no other thing than what was written?
fn is_told_right(cut: &Crash, whole: &Crash) -> bool {
    let text = |cut: &Option<Text>, whole: &Option<Text>| match (cut, whole) {
        (None, _) => true,
        (Some(cut), Some(whole)) if cut.is_whole() => cut == whole,
        (Some(cut), Some(whole)) => whole.value.starts_with(&cut.value),
        (Some(_), None) => false,
    };
    let is_part = |cut: Option<u32>, whole: Option<u32>| cut.is_none() || cut == whole;
    text(&cut.reason, &whole.reason)
        && text(&cut.cause, &whole.cause)
        && text(&cut.location, &whole.location)
        && text(&cut.process, &whole.process)
        && text(&cut.why, &whole.why)
        && is_part(cut.build_id, whole.build_id)
        && is_part(cut.signature, whole.signature)
        && (cut.panicked.is_none() || cut.panicked == whole.panicked)
        && whole.groups.starts_with(&cut.groups)
        && whole.dump.starts_with(&cut.dump)
}

#[test]
fn a_listing_that_is_cut_anywhere_tells_what_was_written_or_says_that_it_is_cut() {
    let words = [
        "Fatal exception",
        "id 5f3e9a1b",
        "3=1741ba",
        "NULL deref at 18",
        "RIP null_pointer+a",
        "Comm insmod",
        "#06bz7sfyrb",
        "~de47bb07",
        "2*a592eb",
        "1*user",
        "< do_one_initcall",
        "dump start",
        "dump failed",
        "why No space left on device",
    ];
    let lists = [list(&words), texts(&words)];
    for whole in &lists {
        let [written] = &crashes_of(whole)[..] else { panic!() };
        assert_eq!(written.unparsed, []);
        for end in 1..whole.len() {
            for nuls in [0, 3] {
                let cut = [&whole.as_bytes()[..end], &vec![0; nuls]].concat();
                let Ok(log) = Log::parse(&cut) else { continue };
                let found = crashes(&log);
                assert!(found.len() <= 1, "{}: {found:?}", &whole[..end]);
                if let [crash] = &found[..] {
                    assert!(is_told_right(crash, written), "{}: {crash:?}", &whole[..end]);
                }
            }
        }
    }
}
