//! What `lastwords read` prints for people: one paragraph a crash, the most important first, short lines.

use super::{
    Reading,
    crash::{At, Crash, Named, Panicked},
};
use anstyle::{AnsiColor, Style};
use lastwords_core::{
    report::{Location, Stage},
    store::sel::Source,
};
use std::fmt::{self, Write};

const TITLE: Style = Style::new().bold();
const ALARM: Style = AnsiColor::Red.on_default().bold();
const LABEL: Style = Style::new().dimmed();
const WARNING: Style = AnsiColor::Yellow.on_default();

/// Groups of CPUs in the picture, biggest first: a sign, so that it can be read without colours, and a colour.
const GROUPS: [(char, Style); 6] = [
    ('▓', AnsiColor::Cyan.on_default()),
    ('▒', AnsiColor::Green.on_default()),
    ('░', AnsiColor::Blue.on_default()),
    ('▚', AnsiColor::Magenta.on_default()),
    ('▞', AnsiColor::Cyan.on_default()),
    ('▪', AnsiColor::Green.on_default()),
];
/// All further groups.
const OTHERS: (char, Style) = ('·', Style::new());
const PANICKED: (char, Style) = ('█', ALARM);
const DEAD: (char, Style) = ('×', WARNING);
/// Widest picture, in signs.
const WIDTH: u32 = 60;

/// The report, with colours (which the terminal's stream takes out again where they are not wanted), and for a
/// terminal with a picture of the CPUs.
pub struct Report<'a> {
    /// What was read.
    pub reading: &'a Reading,
    /// Draw the picture.
    pub picture: bool,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { crashes, source, .. } = self.reading;
        if crashes.is_empty() {
            writeln!(f, "No last words in {source}")?;
        }
        let count = crashes.iter().filter(|crash| !crash.is_rehearsal()).count();
        let mut number = 0;
        for (index, crash) in crashes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let title = if crash.is_rehearsal() {
                "Rehearsal".to_owned()
            } else {
                number += 1;
                if count > 1 { format!("Crash {number} of {count}") } else { "Crash".to_owned() }
            };
            let time = match &crash.time {
                Some(time) => format!("{time} (BMC time)"),
                None => "time unknown".to_owned(),
            };
            writeln!(f, "{TITLE}{title}, {time}{TITLE:#}")?;
            self.crash(f, crash)?;
        }
        self.notes(f)
    }
}

impl Report<'_> {
    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { crashes, notes, unnamed, .. } = self.reading;
        let notes_follow = !notes.is_empty() || !unnamed.is_empty();
        if notes_follow && !crashes.is_empty() {
            writeln!(f)?;
        }
        for note in notes {
            writeln!(f, "{LABEL}Note: {note}{LABEL:#}")?;
        }
        for id in unnamed {
            writeln!(
                f,
                "{LABEL}Note: no symbols of build id {id:08x} are saved here: give that kernel's with --symbols FILE \
                 (kallsyms, System.map, vmlinux){LABEL:#}"
            )?;
        }
        Ok(())
    }

    fn crash(&self, f: &mut fmt::Formatter<'_>, crash: &Crash) -> fmt::Result {
        let picture = self.picture && crash.cpus() > 1;
        let rows = rows(crash, picture);
        let width = rows.iter().map(|row| row.label.len()).max().unwrap_or_default();
        for Row { label, text, style, sign } in &rows {
            if picture {
                match sign {
                    Some((sign, style)) => write!(f, "{style}{sign}{style:#} ")?,
                    None => f.write_str("  ")?,
                }
            } else {
                f.write_str("  ")?;
            }
            writeln!(f, "{LABEL}{label:width$}{LABEL:#}  {style}{text}{style:#}")?;
        }
        Ok(())
    }
}

/// One line.
struct Row {
    label: String,
    text: String,
    style: Style,
    /// Its CPUs' sign in the picture.
    sign: Option<(char, Style)>,
}

impl Row {
    fn new(label: &str, text: impl fmt::Display) -> Self {
        Self { label: label.to_owned(), text: format!("{text}"), style: Style::new(), sign: None }
    }
}

fn rows(crash: &Crash, picture: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let why = match (&crash.reason, crash.speaker) {
        (Some(reason), Some(_)) => reason.to_string(),
        (Some(reason), None) => format!("{reason} (the platform event has no more)"),
        (None, _) => "not said".to_owned(),
    };
    rows.push(Row { style: if crash.reason.is_some() { ALARM } else { WARNING }, ..Row::new("why", why) });
    // Where the kernel crashes on a report at once, that is the reason.
    let cause = crash.cause.as_ref().filter(|cause| Some(*cause) != crash.reason.as_ref());
    let lines = [("cause", cause), ("at", crash.rip.as_ref()), ("process", crash.comm.as_ref())];
    rows.extend(lines.into_iter().filter_map(|(label, words)| Some(Row::new(label, words?))));
    for (index, caller) in crash.callers.iter().enumerate() {
        rows.push(Row::new(if index == 0 { "called by" } else { "" }, caller));
    }
    if let Some(id) = crash.build_id {
        let release = crash.release.as_ref().map(|release| format!(" ({release})"));
        rows.push(Row::new("kernel", format!("build id {id:08x}{}", release.unwrap_or_default())));
    }
    if picture {
        rows.push(Row::new("CPUs", Picture(crash)));
    }
    match &crash.panicked {
        Some(Panicked::Cpu(cpu, at)) => rows.push(Row {
            sign: Some(PANICKED),
            style: TITLE,
            ..Row::new(&format!("CPU {cpu}"), format!("panicked {}", Shown(at)))
        }),
        Some(Panicked::Unknown) => {
            rows.push(Row::new("CPU ?", "panicked: which one is not known, it is among these"));
        }
        None => {}
    }
    for (group, sign) in crash.groups.iter().zip(signs(crash)) {
        let style = if group.at.place == Location::NotResponding { WARNING } else { Style::new() };
        rows.push(Row { sign: Some(sign), style, ..Row::new(&cpus(group.count), Shown(&group.at)) });
    }
    if crash.left_out > 0 {
        let text = "left out: the records did not suffice (--sel-records)";
        rows.push(Row { sign: Some(OTHERS), ..Row::new(&cpus(crash.left_out), text) });
    }
    for words in &crash.damaged {
        let text = format!("the dump kernel's {words} was not what had been loaded");
        rows.push(Row { style: WARNING, ..Row::new("damage", text) });
    }
    rows.extend(dump(&crash.dump));
    if crash.missing > 0 {
        let records = if crash.missing == 1 { "record is" } else { "records are" };
        let text = format!("{} {records} missing in the SEL", crash.missing);
        rows.push(Row { style: WARNING, ..Row::new("lost", text) });
    }
    for words in &crash.fragments {
        rows.push(Row::new(if words.cut || words.headless { "part" } else { "also" }, words));
    }
    if crash.speaker == Some(Source::Linux) {
        rows.push(Row::new("said by", "Linux's own IPMI driver (panic_op=string)"));
    }
    rows
}

fn cpus(count: u32) -> String {
    if count == 1 { "1 CPU".to_owned() } else { format!("{count} CPUs") }
}

fn dump(stages: &[Stage]) -> Option<Row> {
    let words = stages.iter().map(|stage| match stage {
        Stage::Started => "started",
        Stage::Saved => "saved",
        Stage::Failed => "failed",
    });
    let text = words.collect::<Vec<_>>().join(", ");
    Some(match stages.last()? {
        Stage::Saved => Row::new("dump", text),
        Stage::Failed => Row { style: WARNING, ..Row::new("dump", text) },
        Stage::Started => Row { style: WARNING, ..Row::new("dump", text + ", and no word of its end") },
    })
}

/// A place in words.
struct Shown<'a>(&'a At);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.place, &self.0.name) {
            (Location::NotResponding, _) => f.write_str("never answered the NMI that stops all CPUs"),
            (Location::User, _) => f.write_str("in user space"),
            (_, Named::As(name)) => write!(f, "at {name}"),
            (Location::Kernel(offset), _) => write!(f, "at _stext+{offset:#x}"),
            (Location::Address(address), Named::Not) => write!(f, "at {address:016x}"),
            (Location::Address(address), Named::Nowhere) => {
                write!(f, "at {address:016x}, in no module that the symbols know")
            }
            (Location::Address(address), Named::OtherBoot) => {
                write!(f, "at {address:016x}, and the saved modules are of another boot")
            }
        }
    }
}

/// The groups' signs.
fn signs(crash: &Crash) -> impl Iterator<Item = (char, Style)> {
    let mut next = GROUPS.into_iter();
    crash.groups.iter().map(move |group| match group.at.place {
        Location::NotResponding => DEAD,
        _ => next.next().unwrap_or(OTHERS),
    })
}

/// The CPUs as a line of blocks, by group.
struct Picture<'a>(&'a Crash);

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(crash) = self;
        let panicked = matches!(crash.panicked, Some(Panicked::Cpu(..))).then_some((PANICKED, 1));
        let groups = signs(crash).zip(crash.groups.iter().map(|group| group.count));
        let others = (crash.left_out > 0).then_some((OTHERS, crash.left_out));
        // So many CPUs are one block.
        let scale = crash.cpus().div_ceil(WIDTH).max(1);
        let mut room = WIDTH + u32::try_from(crash.groups.len()).unwrap_or(WIDTH).min(WIDTH);
        for ((sign, style), count) in panicked.into_iter().chain(groups).chain(others) {
            let blocks = count.div_ceil(scale).min(room);
            room -= blocks;
            write!(f, "{style}")?;
            (0..blocks).try_for_each(|_| f.write_char(sign))?;
            write!(f, "{style:#}")?;
        }
        if scale > 1 { write!(f, " one block: {scale} CPUs") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::crash::Group;

    fn report(crash: Crash, picture: bool) -> String {
        let reading = Reading { crashes: vec![crash], ..Reading::default() };
        Report { reading: &reading, picture }.to_string()
    }

    fn group(count: u32, place: Location) -> Group {
        Group { count, at: place.into() }
    }

    #[test]
    fn a_terminal_gets_a_picture_of_the_cpus() {
        let crash = Crash {
            panicked: Some(Panicked::Cpu(3, Location::Kernel(0x10).into())),
            groups: vec![
                group(4, Location::Kernel(0x103f0)),
                group(2, Location::User),
                group(1, Location::NotResponding),
            ],
            left_out: 2,
            ..Crash::default()
        };
        let shown = anstream::adapter::strip_str(&report(crash.clone(), true)).to_string();
        assert_eq!(
            shown,
            "\
Crash, time unknown
  why     not said
  CPUs    █▓▓▓▓▒▒×··
█ CPU 3   panicked at _stext+0x10
▓ 4 CPUs  at _stext+0x103f0
▒ 2 CPUs  in user space
× 1 CPU   never answered the NMI that stops all CPUs
· 2 CPUs  left out: the records did not suffice (--sel-records)
"
        );
        // Elsewhere it would be in the way.
        let plain = anstream::adapter::strip_str(&report(crash, false)).to_string();
        assert!(
            !plain.contains(['█', '▓', '×']) && plain.contains("  4 CPUs  at _stext+0x103f0\n"),
            "{plain}"
        );
    }

    #[test]
    fn a_picture_of_any_machine_is_one_short_line() {
        for groups in [vec![4096], vec![u32::MAX; 3], (1..400).rev().collect(), vec![1; 400], vec![59, 1, 1]]
        {
            let groups = groups.into_iter().map(|count| group(count, Location::User)).collect();
            let crash = Crash { groups, ..Crash::default() };
            let picture = anstream::adapter::strip_str(&Picture(&crash).to_string()).to_string();
            let blocks = picture.split(' ').next().unwrap().chars().count();
            assert!((1..=2 * WIDTH as usize).contains(&blocks), "{picture}");
        }
    }
}
