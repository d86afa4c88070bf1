//! The report for people: the verdict first, the newest crash in full, what to do next, the older ones a line each.

use super::{
    Reading, View,
    crash::{Crash, Text, Time},
    next,
    part::Part,
    rows::rows,
};
use crate::layout::{BAD, Duration, GOOD, printable, wrap, write_rows};
use lastwords_core::report::Stage;
use std::{
    fmt::{self, Write},
    path::Path,
};

/// Columns of the rows' labels.
const LABELS: usize = 12;

/// The report, with colours, which the terminal's stream takes out again where they are not wanted.
pub struct Report<'a> {
    /// What was read.
    pub reading: &'a Reading,
    /// Which of it to show in full.
    pub view: View,
    /// Columns.
    pub width: usize,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (full, earlier, tests) = self.split();
        if full.is_empty() {
            write!(f, "No panic report in {}", printable(&self.reading.source))?;
            match &self.reading.host {
                Some(host) if *host != self.reading.source && !self.reading.is_local => {
                    writeln!(f, ", host {}", printable(host))?;
                }
                _ => writeln!(f)?,
            }
        }
        for (index, crash) in full.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.crash(f, crash)?;
            if index == 0 {
                self.next(f, crash)?;
            }
        }
        self.earlier(f, &earlier)?;
        if let [newest, ..] = tests[..] {
            let newest =
                if tests.len() == 1 { short_time(newest) } else { format!("newest {}", short_time(newest)) };
            let text = format!("Test reports: {}, {newest} (lastwords read --all)", tests.len());
            writeln!(f, "{}", wrap(&text, 0, 2, self.width))?;
        }
        self.notes(f, &full)
    }
}

impl<'a> Report<'a> {
    /// What is shown in full, the earlier crashes and the test reports that are not; the newest first.
    fn split(&self) -> (Vec<&'a Crash>, Vec<&'a Crash>, Vec<&'a Crash>) {
        let all = self.reading.crashes.iter().rev();
        // `Reading::keep_newest` has left nothing else.
        if self.view != View::Overview {
            return (all.collect(), Vec::new(), Vec::new());
        }
        let (mut tests, mut crashes): (Vec<_>, Vec<_>) = all.partition(|crash| crash.is_test());
        if crashes.is_empty() {
            let others = tests.split_off(tests.len().min(1));
            return (tests, Vec::new(), others);
        }
        let earlier = crashes.split_off(1);
        (crashes, earlier, tests)
    }

    fn crash(&self, f: &mut fmt::Formatter<'_>, crash: &Crash) -> fmt::Result {
        let style = if crash.is_test() { GOOD } else { BAD };
        writeln!(f, "{style}{}{style:#}", wrap(&self.verdict(crash), 0, 2, self.width))?;
        writeln!(f, "{}\n", wrap(&summary(crash), 0, 2, self.width))?;
        write_rows(f, &rows(crash, self.reading), LABELS, self.width)
    }

    /// `PANIC on db04, 2026-11-23 01:38:20 (BMC clock, 8 minutes ago); dump saved`.
    fn verdict(&self, crash: &Crash) -> String {
        let title = match () {
            () if crash.is_test() => "TEST REPORT",
            () if crash.is_progress_alone() => "DUMP WITHOUT A PANIC REPORT",
            () => "PANIC",
        };
        let mut text = title.to_owned();
        if let Some(host) = &self.reading.host {
            let _ = write!(text, " on {host}");
        }
        let _ = match &crash.time {
            None => write!(text, ", time unknown"),
            Some(time @ Time::Uptime(_)) => write!(text, ", {time}"),
            Some(time) => match self.reading.age(crash) {
                Some(seconds) => write!(text, ", {time} (BMC clock, {} ago)", Duration(seconds)),
                None => write!(text, ", {time} (BMC clock)"),
            },
        };
        if !crash.is_test() {
            let _ = match dump(crash) {
                "unfinished" => write!(text, "; DUMP UNFINISHED"),
                NO_DUMP => write!(text, "; no dump kernel"),
                dump => write!(text, "; dump {dump}"),
            };
        }
        text
    }

    /// What to do now.
    fn next(&self, f: &mut fmt::Formatter<'_>, crash: &Crash) -> fmt::Result {
        if crash.is_test() {
            return Ok(());
        }
        let here = self.reading.is_local.then_some(Path::new("/"));
        let vmlinux = crash.release.as_ref().map(|release| next::vmlinux(here, release));
        if dump(crash) == NO_DUMP {
            return Ok(());
        }
        let commands = match (&crash.vmcore, vmlinux, dump(crash)) {
            (Some(vmcore), Some(vmlinux), _) => vec![format!("crash {vmlinux} {vmcore}")],
            (Some(vmcore), None, _) => vec![format!("ls -l {vmcore}")],
            (None, Some(vmlinux), "saved" | "unknown") => {
                vec![format!("ls -t {}", next::FOLDER), format!("crash {vmlinux} DUMPFILE")]
            }
            (None, ..) => vec![format!("ls -t {}", next::FOLDER)],
        };
        let title = if self.reading.is_local { "Next:" } else { "Next, on the server:" };
        let mut head = format!("\n{title}");
        if !self.reading.is_local {
            head.push_str("\n     ");
        }
        for command in commands {
            writeln!(f, "{head} {}", shell(&command, self.width))?;
            "     ".clone_into(&mut head);
        }
        Ok(())
    }

    fn earlier(&self, f: &mut fmt::Formatter<'_>, earlier: &[&Crash]) -> fmt::Result {
        /// `dump unfinished`
        const DUMP: usize = 15;
        if earlier.is_empty() {
            return Ok(());
        }
        writeln!(f, "Earlier crashes (lastwords read --all):")?;
        let lines: Vec<_> = earlier
            .iter()
            .map(|crash| (short_time(crash), printable(&headline(crash)), format!("dump {}", dump(crash))))
            .collect();
        let times = lines.iter().map(|(time, ..)| time.len()).max().unwrap_or_default();
        let texts = lines.iter().map(|(_, text, _)| text.len()).max().unwrap_or_default();
        let texts = texts.min(self.width.saturating_sub(2 + times + 2 + 2 + DUMP)).max(8);
        for (time, mut text, dump) in lines {
            if text.len() > texts {
                text.truncate(texts - 3);
                text.push_str("...");
            }
            let line = format!("  {time:<times$}  {text:<texts$}  {dump}");
            writeln!(f, "{}", wrap(&line, 0, 4, self.width))?;
        }
        Ok(())
    }

    fn notes(&self, f: &mut fmt::Formatter<'_>, full: &[&Crash]) -> fmt::Result {
        let Reading { notes, unnamed, part, .. } = self.reading;
        let part = part.as_ref().and_then(Part::note).map(ToString::to_string);
        let notes = part.into_iter().chain(notes.iter().map(ToString::to_string));
        let unnamed = unnamed.iter().filter(|id| full.iter().any(|crash| crash.build_id == Some(**id)));
        let symbols = unnamed.map(|id| {
            format!(
                "there are no symbols of the kernel with build ID {id:08x}. Name its kallsyms, System.map or vmlinux \
                 with --symbols FILE."
            )
        });
        for (index, note) in notes.chain(symbols).enumerate() {
            if index == 0 {
                writeln!(f)?;
            }
            writeln!(f, "{}", wrap(&format!("Note: {note}"), 0, 6, self.width))?;
        }
        Ok(())
    }
}

/// What became of the dump, as far as its kernel's scripts have recorded it.
fn dump(crash: &Crash) -> &'static str {
    match crash.dump.last() {
        Some(Stage::Saved) => "saved",
        Some(Stage::Failed) => "failed",
        Some(Stage::Started) => "unfinished",
        None if crash.no_dump => NO_DUMP,
        None => "unknown",
    }
}

/// Of a dump that was never to be.
const NO_DUMP: &str = "none";

/// Cause or reason: what happened first.
fn headline(crash: &Crash) -> String {
    crash.cause.as_ref().or(crash.reason.as_ref()).map_or_else(|| "reason unknown".to_owned(), in_full)
}

/// `NULL pointer dereference at 0x18 in null_pointer+0xa, process insmod`.
pub(super) fn summary(crash: &Crash) -> String {
    let mut text = headline(crash);
    if let Some(location) = &crash.location {
        let _ = write!(text, " in {location}");
    }
    if let Some(process) = &crash.process {
        let _ = write!(text, ", process {process}");
    }
    let shown =
        [crash.cause.as_ref().or(crash.reason.as_ref()), crash.location.as_ref(), crash.process.as_ref()];
    if shown.into_iter().flatten().any(|text| !text.is_whole()) {
        let _ = match (crash.source, crash.missing) {
            (None, _) => write!(text, " (only the platform event is recorded)"),
            (Some(_), 0) => write!(text, " (truncated)"),
            (Some(_), 1) => write!(text, " (truncated: 1 SEL record missing)"),
            (Some(_), missing) => write!(text, " (truncated: {missing} SEL records missing)"),
        };
    }
    text
}

/// What the SEL's short forms of the kernel's reports stand for (docs/sel-format.md).
const IN_FULL: [(&str, &str); 7] = [
    ("NULL deref at ", "NULL pointer dereference at 0x"),
    ("page fault at ", "page fault at 0x"),
    ("GP fault at ", "general protection fault at 0x"),
    ("GP fault", "general protection fault"),
    ("BUG at ", "kernel BUG at "),
    ("stack overflow", "kernel stack overflow"),
    ("oom-killer", "oom-killer invoked"),
];

/// A report in the kernel's own words.
pub(super) fn in_full(text: &Text) -> String {
    let found = IN_FULL.iter().find_map(|(short, long)| Some((long, text.value.strip_prefix(short)?)));
    let Some((long, rest)) = found else { return text.to_string() };
    let rest = if long.ends_with("0x") { rest.trim_start_matches("0x") } else { rest };
    Text { value: format!("{long}{rest}"), ..text.clone() }.to_string()
}

fn short_time(crash: &Crash) -> String {
    crash.time.as_ref().map_or_else(|| "time unknown".to_owned(), |time| printable(&time.to_string()))
}

/// A command that is not broken within a word, so that it can be pasted.
fn shell(command: &str, width: usize) -> String {
    const INDENT: usize = 6;
    if INDENT + command.len() <= width {
        return printable(command);
    }
    printable(command).replace(' ', &format!(" \\\n{:1$}", "", INDENT + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{
        Log,
        crash::{Group, NamedLocation, Symbol},
    };
    use lastwords_core::{report::Location, store::sel};

    /// 2026-11-23 01:38:20.
    const TIME: u32 = 1_795_397_900;

    fn event(letters: [u8; 3], time: u32) -> [u8; 16] {
        let mut record = sel::event_record(letters);
        record[3..7].copy_from_slice(&time.to_le_bytes());
        record
    }

    /// The records of a crash, as the image writes them.
    fn records(time: u32, lines: &[&str], stages: &[Stage]) -> Vec<[u8; 16]> {
        let letters = lines.first().and_then(|line| line.as_bytes().first_chunk()).copied();
        let mut records = vec![event(letters.unwrap_or_default(), time)];
        for line in lines {
            records.extend(sel::records(line.as_bytes(), records.len() as u8 - 1));
        }
        records.extend(stages.iter().map(|stage| sel::mark(*stage)));
        records
    }

    /// docs/sel-format.md has the same, as ipmitool shows it.
    fn insmod() -> Vec<[u8; 16]> {
        let lines = [
            "Fatal exception",
            "id eb4fbcd0",
            "3=1741ba",
            "NULL deref at 18",
            "RIP null_pointer+a",
            "Comm insmod",
            "#06bz7sfyrb",
            "~de47bb07",
            "2*a592eb",
            "1*user",
            "< do_one_initcall",
        ];
        records(TIME, &lines, &[Stage::Started, Stage::Saved])
    }

    fn sysrq(time: u32) -> Vec<[u8; 16]> {
        records(time, &["sysrq triggered crash", "1=1741ba", "Comm sh"], &[Stage::Failed])
    }

    /// Read on the machine itself, `age` seconds after the newest.
    fn reading(records: impl IntoIterator<Item = Vec<[u8; 16]>>, age: i64) -> Reading {
        let log: Log = records.into_iter().flatten().collect();
        let mut reading = Reading::new(&log, "/dev/ipmi0");
        reading.host = Some("db04".to_owned());
        reading.is_local = true;
        reading.now = Some(i64::from(TIME) + age);
        for crash in &mut reading.crashes {
            crash.release = crash.build_id.map(|_| "6.1.0-56-amd64".to_owned());
            for Group { location: NamedLocation { location, symbol }, .. } in &mut crash.groups {
                if *location == Location::Kernel(0xa592eb) {
                    *symbol = Symbol::Known("native_safe_halt+0xb".to_owned());
                }
            }
        }
        reading
    }

    fn shown(reading: &Reading, view: View, width: usize) -> String {
        let text = Report { reading, view, width }.to_string();
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.is_ascii(), "{text}");
        text
    }

    #[test]
    fn the_newest_crash_in_full_and_a_line_for_each_other() {
        let test = records(TIME - 9000, &["test report, nothing has crashed"], &[]);
        let reading = reading([test, sysrq(TIME - 2177), insmod()], 8 * 60 + 5);
        assert_eq!(
            shown(&reading, View::Overview, 80),
            "\
PANIC on db04, 2026-11-23 01:38:20 (BMC clock, 8 minutes ago); dump saved
NULL pointer dereference at 0x18 in null_pointer+0xa, process insmod

  Reason      Fatal exception
  Location    null_pointer+0xa
  Process     insmod, CPU 3
  Call trace  do_one_initcall
  Other CPUs  2 idle (native_safe_halt+0xb)
              1 in user space
  Kernel      6.1.0-56-amd64 (build ID eb4fbcd0)
  Dump        started, saved
  Crash ID    06bz7sfyrb
  Signature   de47bb07
  Class       null-pointer
  Records     18, none missing

Next: ls -t /var/crash
      crash /usr/lib/debug/boot/vmlinux-6.1.0-56-amd64 DUMPFILE
Earlier crashes (lastwords read --all):
  2026-11-23 01:02:03  sysrq triggered crash  dump failed
Test reports: 1, 2026-11-22 23:08:20 (lastwords read --all)
"
        );
    }

    #[test]
    fn what_is_alarming_has_a_mark() {
        let lines =
            ["Attempted to kill init! exitcode=0x0000000b", "?=?", "ff*a592eb", "2*dead", "bad initrd"];
        let mut records = records(TIME - 5901, &lines, &[Stage::Started]);
        records.drain(3..5);
        assert_eq!(
            shown(&reading([records], 0), View::Overview, 80),
            "\
PANIC on db04, 2026-11-22 23:59:59 (BMC clock, 1 hour ago); DUMP UNFINISHED
Attempted to kill init... (truncated: 2 SEL records missing)

  Panic CPU   unknown, one of those below
! CPUs        2 did not respond to the stop NMI
              255 idle (native_safe_halt+0xb)
! Dump        started; no result recorded
! Dump kernel initrd corrupt: checksum differs from the one loaded
  Crash ID    ev4heqsfng (derived)
  Class       init-killed
! Records     8, 2 missing

Next: ls -t /var/crash
"
        );
    }

    #[test]
    fn cpus_that_are_off_are_not_alarming_and_the_panicked_one_has_not_failed_to_respond() {
        for (panicked, lines, expected) in [
            (
                "3=unread",
                ["b*off", "1*unread", "1*dead", "7*a592eb"],
                "\
  Panic CPU   3, with an unreadable crash note
! Other CPUs  1 with an unreadable crash note
!             1 did not respond to the stop NMI
              7 idle (native_safe_halt+0xb)
              11 offline
",
            ),
            // Older versions knew one word for all of them.
            (
                "3=dead",
                ["c*off/dead", "7*a592eb", "1*user", "+2"],
                "\
  Panic CPU   3, with an unreadable crash note
  Other CPUs  7 idle (native_safe_halt+0xb)
              1 in user space
              12 offline, or did not respond to the stop NMI
",
            ),
        ] {
            let lines = [&["sysrq triggered crash", "id eb4fbcd0", panicked], &lines[..]].concat();
            let text = shown(&reading([records(TIME, &lines, &[])], 9), View::Overview, 80);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_dump_that_was_found_is_named() {
        let mut reading = reading([insmod()], -7);
        reading.crashes[0].vmcore = Some("/var/crash/202611230138/dump.202611230138".to_owned());
        let text = shown(&reading, View::Newest(1), 80);
        // The BMC's clock was set back: then no age is known.
        assert!(text.starts_with("PANIC on db04, 2026-11-23 01:38:20 (BMC clock); dump saved\n"), "{text}");
        let next = "\
Next: crash \\
        /usr/lib/debug/boot/vmlinux-6.1.0-56-amd64 \\
        /var/crash/202611230138/dump.202611230138
";
        assert!(text.ends_with(next), "{text}");
    }

    #[test]
    fn a_test_report_is_no_crash() {
        let test = |time| records(time, &["test report, nothing has crashed", "Comm test"], &[]);
        let reading = reading([test(TIME - 60), test(TIME)], 3);
        assert_eq!(
            shown(&reading, View::Overview, 80),
            "\
TEST REPORT on db04, 2026-11-23 01:38:20 (BMC clock, 3 seconds ago)
test report, nothing has crashed, process test

  Process     test
  Crash ID    21131x4zy3 (derived)
  Signature   f85fa833 (partial)
  Class       other
  Records     5, none missing
Test reports: 1, 2026-11-23 01:37:20 (lastwords read --all)
"
        );
        let text = shown(&reading, View::All, 80);
        assert_eq!(text.matches("TEST REPORT").count(), 2, "{text}");
        assert!(!text.contains("PANIC") && !text.contains("dump"), "{text}");
    }

    #[test]
    fn a_platform_event_alone_and_nothing_at_all() {
        let text = shown(&reading([vec![event(*b"sys", 90)]], 0), View::Overview, 80);
        let start = "\
PANIC on db04, 90 s after the BMC's start; dump unknown
sys... (only the platform event is recorded)
";
        assert!(text.starts_with(start), "{text}");
        assert_eq!(shown(&reading([], 0), View::Overview, 80), "No panic report in /dev/ipmi0\n");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_nor_anything_but_ascii() {
        let long = "a".repeat(88);
        let evil = "evil \u{1b}[31m\u{202e}\u{7f} text";
        let groups: Vec<_> = (1..60).map(|cpu| format!("{cpu:x}*@c02630{cpu:02x}")).collect();
        let mut lines =
            vec![long.as_str(), evil, "RIP a_function_with_a_long_name_indeed+12ab", "Comm kthread"];
        lines.extend(groups.iter().map(String::as_str));
        let mut reading = reading([records(TIME - 1, &lines[..1], &[]), records(TIME, &lines, &[])], 1);
        reading.host = Some("a-host-with-a-long-name.in-a-domain.with-a-long-name.example.com".to_owned());
        reading.unnamed.push(7);
        for (view, width) in [(View::Overview, 80), (View::All, 80), (View::Overview, 40), (View::All, 132)] {
            let text = shown(&reading, view, width);
            assert!(text.lines().all(|line| line.len() <= width), "{text}");
            assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text}");
        }
    }
}
