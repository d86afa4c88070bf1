//! What lastwords wrote to the SEL as text, held against what /proc/vmcore says of the same crash.
//!
//! Written from the documents (`docs/sel-format.md`) and not with core's own decoder, which this is to judge.

use crate::judge::dmesg::Dmesg;
use crate::judge::identity::fnv;
use crate::judge::outcome::Outcome;
use crate::judge::sel::Record;
use crate::judge::vmcore::Notes;
use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;

/// The lines of text in the SEL, put together from their records.
#[must_use]
pub fn lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for Record(bytes) in records.iter().filter(|record| record.kind() == 0xf0) {
        let text = bytes[5..].iter().take_while(|byte| **byte != 0).map(|byte| *byte as char);
        match lines.last_mut() {
            Some(line) if bytes[4] & 0x80 == 0 => line.extend(text),
            _ => lines.push(text.collect()),
        }
    }
    lines
}

/// A place as the SEL names it: an offset in the kernel's image, `_stext` to its end, or an address.
fn place(rip: u64, image: &Range<u64>) -> String {
    if image.contains(&rip) {
        format!("{:x}", rip - image.start)
    } else if rip < 1 << 63 {
        "user".to_owned()
    } else if rip >> 32 == 0xffff_ffff {
        format!("@{:08x}", rip & 0xffff_ffff)
    } else {
        format!("@{rip:x}")
    }
}

/// The words in the SEL, sorted by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Why, in the kernel's own words.
    pub reason: Option<String>,
    /// `id 5f3e9a1b`.
    pub id: Option<String>,
    /// `1=9c2a36`.
    pub panicked: Option<String>,
    /// What the kernel reported before it panicked.
    pub cause: Option<String>,
    /// Where that was, without `RIP `.
    pub rip: Option<String>,
    /// The process, without `Comm `.
    pub comm: Option<String>,
    /// `#k3f9x2m8qa`, without the `#`.
    pub crash_id: Option<String>,
    /// `~1a2b3c4d`, without the `~`.
    pub signature: Option<String>,
    /// `fe*103f0`, and `+1f` at the end.
    pub groups: Vec<String>,
    /// The call trace, without `< `.
    pub callers: Vec<String>,
}

impl Said {
    /// Sorts lines.
    ///
    /// # Errors
    /// When they are not in the order that the format has them in, or one is there twice.
    pub fn parse(lines: &[String]) -> Result<Self> {
        let mut said = Self::default();
        let mut last = 0;
        for (number, line) in lines.iter().enumerate() {
            let after = |prefix| line.strip_prefix(prefix).map(str::to_owned);
            let digits = line.trim_start_matches(|char: char| char.is_ascii_hexdigit());
            let (order, twice) = if let Some(id) = after("id ") {
                (1, said.id.replace(id).is_some())
            } else if number == 0 {
                (0, said.reason.replace(line.clone()).is_some())
            } else if digits.starts_with('=') || line == "?=?" {
                (2, said.panicked.replace(line.clone()).is_some())
            } else if let Some(rip) = after("RIP ") {
                (4, said.rip.replace(rip).is_some())
            } else if let Some(comm) = after("Comm ") {
                (5, said.comm.replace(comm).is_some())
            } else if let Some(crash_id) = after("#") {
                (6, said.crash_id.replace(crash_id).is_some())
            } else if let Some(signature) = after("~") {
                (7, said.signature.replace(signature).is_some())
            } else if digits.starts_with('*') || (line.starts_with('+') && line.len() > 1) {
                said.groups.push(line.clone());
                (8, false)
            } else if let Some(caller) = after("< ") {
                said.callers.push(caller);
                (9, false)
            } else {
                (3, said.cause.replace(line.clone()).is_some())
            };
            ensure!(last <= order && !twice, "{line:?} is out of order in {lines:?}");
            last = order;
        }
        Ok(said)
    }
}

/// Finds the words among a SEL's records, which must be numbered from 0: those of `lastwords mark`, which come later and are
/// all 0xff, are not the crash's.
///
/// # Errors
/// When they are not, or not in order.
pub fn said(records: &[Record]) -> Result<Said> {
    let ours = |record: &&Record| record.kind() == 0xf0 && record.0[4] != 0xff;
    let ours: Vec<_> = records.iter().filter(ours).copied().collect();
    let numbered =
        ours.iter().enumerate().all(|(number, Record(bytes))| usize::from(bytes[4] & 0x7f) == number);
    ensure!(numbered, "the records are not numbered from 0: {ours:x?}");
    Said::parse(&lines(&ours))
}

/// Most records of a report, unless its options have another number.
const MOST: usize = 32;

/// Checks that the end of each report shows: where its last line fills its last record and could have been longer there is one
/// more, without text; and nowhere else is such a record.
///
/// # Errors
/// When it is missing, or one too many.
pub fn check_end(records: &[Record]) -> Result<()> {
    let ours: Vec<_> =
        records.iter().filter(|record| record.kind() == 0xf0 && record.0[4] != 0xff).copied().collect();
    let starts = |at: usize| ours.get(at).is_none_or(|Record(bytes)| bytes[4] & 0x80 != 0);
    for (at, Record(bytes)) in ours.iter().enumerate() {
        let last = |to| lines(&ours[..to]).pop().unwrap_or_default();
        let is_open = |line: &str| {
            let is_never_longer = line.starts_with('#') || line.starts_with("id ");
            line.len().is_multiple_of(11) && !is_never_longer
        };
        if bytes[5] == 0 {
            let is_end = bytes[4] & 0x80 == 0 && bytes[5..] == [0; 11] && at > 0 && starts(at + 1);
            ensure!(is_end && is_open(&last(at)), "a record without text that is no end: {ours:x?}");
        } else if at + 1 == ours.len() && ours.len() < MOST {
            ensure!(!is_open(&last(at + 1)), "nothing shows that the report ends here: {ours:x?}");
        }
    }
    Ok(())
}

/// The texts of a report in events, three characters each, of which the last one has count and check of the others.
///
/// # Errors
/// When it does not begin or end so.
pub fn of_events(events: &[[u8; 3]]) -> Result<Vec<String>> {
    let ([one, other], before) = match events.split_last() {
        Some(([0x03, rest @ ..], before)) => (*rest, before.as_flattened()),
        _ => bail!("the last event has no end: {events:x?}"),
    };
    let number = (u64::from(one & 0x7f) << 7) | u64::from(other & 0x7f);
    let expected = (((events.len() as u64 - 1) % 16) << 10) | (fnv(before, 32) & 0x3ff);
    ensure!(one & other & 0x80 != 0, "characters behind the end: {events:x?}");
    ensure!(number == expected, "count and check are {number:#x}, not {expected:#x}: {events:x?}");
    let text = before.strip_prefix(&[0x02]).context("no beginning")?;
    let nuls = text.iter().rev().take_while(|byte| **byte == 0).count();
    let text = &text[..text.len() - nuls];
    ensure!(nuls < 3 && !text.contains(&0), "NULs that fill nothing up: {events:x?}");
    Ok(String::from_utf8(text.to_vec())?.lines().map(str::to_owned).collect())
}

/// Checks the SEL's CPUs: they hold the build id, the CPU that panicked and the groups of the dump, biggest group
/// first. `None`: nothing tells which CPU panicked.
///
/// # Errors
/// When they differ.
pub fn check_cpus(outcome: &Outcome, records: &[Record], panicked: impl Into<Option<usize>>) -> Result<()> {
    check_end(records)?;
    check_groups(outcome, said(records)?, panicked.into())
}

/// The same, where the last group is this one: of CPUs that have left no notes.
///
/// # Errors
/// When it is not, or the others differ.
pub fn check_cpus_and(outcome: &Outcome, records: &[Record], panicked: usize, last: &str) -> Result<()> {
    check_end(records)?;
    let mut said = said(records)?;
    let found = said.groups.pop();
    ensure!(found.as_deref() == Some(last), "the last group is {found:?}, not {last:?}: {said:?}");
    check_groups(outcome, said, Some(panicked))
}

fn check_groups(outcome: &Outcome, said: Said, panicked: Option<usize>) -> Result<()> {
    let notes = outcome.notes()?;
    check_id(&said, &notes)?;
    let size =
        |line: &String| usize::from_str_radix(line.split('*').next().unwrap_or_default(), 16).unwrap_or(0);
    ensure!(
        said.groups.iter().map(size).is_sorted_by(|one, other| one >= other),
        "groups not by size: {said:?}"
    );
    let image = notes.image()?;
    let mut groups: Vec<(String, usize)> = Vec::new();
    let numbers = outcome.cpu_numbers()?;
    for (cpu, _) in notes.cpus.iter().zip(&numbers).filter(|(_, number)| Some(**number) != panicked) {
        let place = place(cpu.rip, &image);
        match groups.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => groups.push((place, 1)),
        }
    }
    let panicked = match panicked {
        None => "?=?".to_owned(),
        Some(number) => {
            let at = numbers.iter().position(|one| *one == number);
            let cpu = at.and_then(|at| notes.cpus.get(at));
            let rip = cpu.context("the panicked CPU has no note")?.rip;
            format!("{number:x}={}", place(rip, &image))
        }
    };
    ensure!(said.panicked.as_ref() == Some(&panicked), "the SEL says {said:?}, not {panicked}");
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let expected = groups.into_iter().map(|(place, count)| format!("{count:x}*{place}")).collect();
    let (groups, expected) = (sorted(said.groups), sorted(expected));
    ensure!(groups == expected, "the SEL's groups are {groups:?}, /proc/vmcore's {expected:?}");
    Ok(())
}

fn check_id(said: &Said, notes: &Notes) -> Result<()> {
    let id = notes.info("BUILD-ID")?.get(..8).context("the build id is too short")?;
    ensure!(said.id.as_deref() == Some(id), "the SEL says {said:?}, the kernel's build id is {id}");
    Ok(())
}

/// Checks what the SEL says of the reason: the panic's text, place, process and callers are those that
/// vmcore-dmesg shows. Returns the reason.
///
/// # Errors
/// When they differ.
pub fn check_reason(outcome: &Outcome, records: &[Record]) -> Result<String> {
    check_end(records)?;
    let (said, dmesg) = (said(records)?, Dmesg::parse(outcome.text("dmesg")?));
    check_id(&said, &outcome.notes()?)?;
    let reason = said.reason.clone().with_context(|| format!("no reason: {said:?}"))?;
    match dmesg.panic() {
        Some(panic) => ensure!(reason == panic, "the SEL's reason is {reason:?}, vmcore-dmesg's {panic:?}"),
        // Then the report stands for it.
        None => ensure!(said.cause.is_none(), "the reason of an oops and a cause: {said:?}"),
    }
    let place = dmesg.rip().or_else(|| dmesg.source().map(str::to_owned));
    ensure!(said.rip == place, "the SEL says {said:?}, vmcore-dmesg RIP {place:?}");
    ensure!(said.comm.as_deref() == dmesg.comm(), "the SEL says {said:?}, vmcore-dmesg {:?}", dmesg.comm());
    let stranger = said.callers.iter().find(|caller| !dmesg.calls(caller));
    ensure!(stranger.is_none(), "no trace in vmcore-dmesg has the caller {stranger:?}");
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_offset_user_space_or_an_address() {
        let image = 0xffffffff81000000..0xffffffff83a00000;
        assert_eq!(place(image.start + 0x10, &image), "10");
        assert_eq!(place(image.end, &image), "@83a00000", "a module");
        assert_eq!(place(0x47b7a0, &image), "user");
        assert_eq!(place(0xffffc90000001234, &image), "@ffffc90000001234");
    }

    fn record(number: u8, text: &[u8]) -> Record {
        let mut bytes = [0; 16];
        bytes[2..5].copy_from_slice(&[0xf0, 0x20, number]);
        bytes[5..5 + text.len()].copy_from_slice(text);
        Record(bytes)
    }

    #[test]
    fn a_report_that_ends_with_a_full_record_has_one_more() {
        let full = [record(0x80, b"Fatal excep"), record(1, b"tion at 11c")];
        let with = |more: &[Record]| check_end(&[&full, more].concat());
        assert!(with(&[]).is_err());
        assert!(with(&[record(0xff, b"dump start")]).is_err());
        for end in [
            &[record(2, b"")][..],
            &[record(2, b""), record(0xff, b"dump start")],
            &[record(2, b""), record(0x83, b"bad kernel")],
            &[record(0x82, b"id 5f3e9a1b")],
            &[record(0x82, b"2*user")],
        ] {
            assert!(with(end).is_ok(), "{end:x?}");
        }
        for end in [
            &[record(0x82, b"")][..],
            &[record(2, b""), record(3, b"")],
            &[record(2, b""), record(3, b"more")],
            &[record(0x82, b"2*user"), record(3, b"")],
            &[record(0x82, b"id 5f3e9a1b"), record(3, b"")],
        ] {
            assert!(with(end).is_err(), "{end:x?}");
        }
    }

    #[test]
    fn a_report_in_events_ends_with_their_count_and_check() {
        let text = b"\x02hung_task: blocked tasks\n1=9c2a36\0\0\x03\xe4\xda";
        let (events, rest) = text.as_chunks();
        assert_eq!((events.len(), rest.len()), (13, 0));
        assert_eq!(of_events(events).unwrap(), ["hung_task: blocked tasks", "1=9c2a36"]);
        assert!(of_events(&events[..12]).is_err() && of_events(&events[1..]).is_err());
        let mut swapped = events.to_vec();
        swapped.swap(3, 4);
        assert!(of_events(&swapped).is_err());
    }

    #[test]
    fn lines_run_over_records_and_start_where_bit_7_says() {
        let record = |number, text: &[u8; 11]| {
            let mut bytes = [0; 16];
            bytes[2..5].copy_from_slice(&[0xf0, 0x20, number]);
            bytes[5..].copy_from_slice(text);
            Record(bytes)
        };
        let records =
            [record(0x80, b"1*@ffffc900"), record(1, b"00001234\0\0\0"), record(0x82, b"2*user\0\0\0\0\0")];
        assert_eq!(lines(&records), ["1*@ffffc90000001234", "2*user"]);
        // With `lastwords mark`'s behind them.
        let records =
            [record(0x80, b"Fatal excep"), record(1, b"tion\0\0\0\0\0\0\0"), record(0xff, b"dump start\0")];
        assert_eq!(said(&records).unwrap().reason.as_deref(), Some("Fatal exception"));
    }

    #[test]
    fn lines_are_what_the_format_says() {
        let said =
            |lines: &[&str]| Said::parse(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        let all = said(&[
            "Fatal exception",
            "id 5f3e9a1b",
            "1=9c2a36",
            "BUG at a.c:1",
            "RIP bug+8",
            "Comm bash",
            "#k3f9x2m8qa",
            "~1a2b3c4d",
            "fe*103f0",
            "+1f",
            "< crash_init",
        ]);
        let all = all.unwrap();
        assert_eq!(
            (all.reason.as_deref(), all.cause.as_deref()),
            (Some("Fatal exception"), Some("BUG at a.c:1"))
        );
        assert_eq!(all.groups, ["fe*103f0", "+1f"]);
        assert_eq!(
            (all.crash_id.as_deref(), all.signature.as_deref()),
            (Some("k3f9x2m8qa"), Some("1a2b3c4d"))
        );
        assert!(said(&["id 5f3e9a1b", "?=?"]).unwrap().reason.is_none());
        assert!(said(&["id 5f3e9a1b", "1*user", "1=9c2a36"]).is_err());
        assert!(said(&["id 5f3e9a1b", "RIP one+1", "RIP two+2"]).is_err());
    }
}
