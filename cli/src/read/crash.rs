//! What the SEL tells of each crash, as one value: what is said, what is cut, what is missing. Nothing is guessed.

use super::log::{Entry, Log};
use crate::symbols::{Name, Symbols, When};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use lastwords_core::{
    report::{CpuLocation, Line, Location, Stage},
    store::sel::{self, Decoded, Decoder, Source},
};
use std::fmt;

/// A crash, or the rehearsal of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crash {
    /// When the BMC logged the platform event, by its own clock.
    pub time: Option<Time>,
    /// Who wrote the words; `None` when there is a platform event only, or a mark.
    pub speaker: Option<Source>,
    /// The text of the panic.
    pub reason: Option<Words>,
    /// The first four bytes of the kernel's build id.
    pub build_id: Option<u32>,
    /// The kernel's release, where the saved symbols tell.
    pub release: Option<String>,
    /// What the kernel reported before it panicked.
    pub cause: Option<Words>,
    /// Where that was, symbol and offset.
    pub rip: Option<Words>,
    /// The process that ran.
    pub comm: Option<Words>,
    /// The call trace, the innermost function first.
    pub callers: Vec<Words>,
    /// The CPU that panicked.
    pub panicked: Option<Panicked>,
    /// The other CPUs, by where they were.
    pub groups: Vec<Group>,
    /// CPUs that nothing is said of, because of the record limit.
    pub left_out: u32,
    /// Parts of the dump kernel that were not what was loaded.
    pub damaged: Vec<Words>,
    /// How far the dump came.
    pub dump: Vec<Stage>,
    /// Records that are lost.
    pub missing: u32,
    /// What is left of lines whose other records are lost.
    pub fragments: Vec<Words>,
}

/// A time by the BMC's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time {
    /// Seconds since 1970, in whatever time zone the BMC's clock is.
    Seconds(u32),
    /// Seconds since the BMC started: it did not know the time (IPMI 2.0 section 37.1).
    Uptime(u32),
    /// As a listing shows it.
    Listed(String),
}

/// Times up to this one count from the BMC's start.
const LAST_UPTIME: u32 = 0x2000_0000;
/// No time at all.
const NO_TIME: u32 = 0xffff_ffff;

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => {
                let time = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::from(*seconds));
                write!(f, "{}", time.to_zoned(TimeZone::UTC).strftime("%a %-d %b %Y %H:%M:%S"))
            }
            Self::Uptime(seconds) => write!(f, "{seconds} s after the BMC's start"),
            Self::Listed(text) => f.write_str(text),
        }
    }
}

/// A text, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Printable characters.
    pub text: String,
    /// Is its beginning lost?
    pub headless: bool,
    /// Is its end lost?
    pub cut: bool,
}

impl Words {
    fn new(bytes: &[u8]) -> Self {
        let printable = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
        let text = String::from_utf8_lossy(bytes).trim_end().chars().map(printable).collect();
        Self { text, headless: false, cut: false }
    }

    fn cut(bytes: &[u8]) -> Self {
        Self { cut: true, ..Self::new(bytes) }
    }

    /// `symbol+12` as the kernel prints it: `symbol+0x12`.
    fn with_0x(mut self) -> Self {
        if let Some((symbol, offset)) = self.text.rsplit_once('+')
            && offset.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !offset.is_empty()
        {
            self.text = format!("{symbol}+0x{offset}");
        }
        self
    }

    fn headless(bytes: &[u8]) -> Self {
        Self { headless: true, ..Self::new(bytes) }
    }
}

/// With `…` where something is lost.
impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (if self.headless { "…" } else { "" }, if self.cut { "…" } else { "" });
        write!(f, "{before}{}{after}", self.text)
    }
}

/// The CPU that panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Panicked {
    /// This one (the kernel's number), here.
    Cpu(u32, At),
    /// Nothing told which; it is among the groups.
    Unknown,
}

/// CPUs in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many.
    pub count: u32,
    /// Where.
    pub at: At,
}

/// A place and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The place as it was said.
    pub place: Location,
    /// What the symbols say of it.
    pub name: Named,
}

/// What the symbols say of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// Nobody has asked: there are none.
    #[default]
    Not,
    /// Its symbol and offset, as the kernel would print it.
    As(String),
    /// It is in nothing that they are of: a module that came later, say.
    Nowhere,
    /// There is a name for it, but in another boot, or nobody knows in which.
    OtherBoot,
}

impl Named {
    /// The name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::As(name) => Some(name),
            Self::Not | Self::Nowhere | Self::OtherBoot => None,
        }
    }
}

impl From<Option<Name>> for Named {
    fn from(name: Option<Name>) -> Self {
        name.map_or(Self::Nowhere, |name| Self::As(name.to_string()))
    }
}

impl From<Location> for At {
    fn from(place: Location) -> Self {
        Self { place, name: Named::Not }
    }
}

/// What a rehearsal's reason begins with.
const REHEARSAL: &str = "rehearsal";

impl Crash {
    /// Is it the rehearsal of one?
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| {
            let begins_so = reason.cut && reason.text.len() >= 3 && REHEARSAL.starts_with(&reason.text);
            begins_so || reason.text.starts_with(REHEARSAL)
        })
    }

    /// All CPUs that are told of, the one that panicked among them.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        let one = u32::from(matches!(self.panicked, Some(Panicked::Cpu(..))));
        self.groups
            .iter()
            .fold(one.saturating_add(self.left_out), |sum, group| sum.saturating_add(group.count))
    }

    /// Every place in it.
    fn places(&mut self) -> impl Iterator<Item = &mut At> {
        let panicked = match &mut self.panicked {
            Some(Panicked::Cpu(_, at)) => Some(at),
            _ => None,
        };
        panicked.into_iter().chain(self.groups.iter_mut().map(|group| &mut group.at))
    }

    /// Are there places that only symbols name?
    #[must_use]
    pub fn needs_symbols(&self) -> bool {
        let panicked = match &self.panicked {
            Some(Panicked::Cpu(_, at)) => Some(at),
            _ => None,
        };
        let mut places = panicked.into_iter().chain(self.groups.iter().map(|group| &group.at));
        places.any(|at| matches!(at.place, Location::Kernel(_)))
    }

    /// Gives the places their names. `ahead` is how many seconds the BMC's clock is before this machine's.
    pub fn name_places(&mut self, symbols: &Symbols, ahead: i64, running: Option<&str>) {
        let time = match self.time {
            Some(Time::Seconds(seconds)) => Some(i64::from(seconds) - ahead),
            _ => None,
        };
        // A rehearsal's boot may be the running one.
        let when = When { time, running: running.filter(|_| !self.is_rehearsal()) };
        self.release = symbols.release().map(str::to_owned);
        for at in self.places() {
            match at.place {
                Location::Kernel(offset) => at.name = symbols.kernel(offset).into(),
                Location::Address(address) => {
                    at.name = symbols.address(address, when).map_or(Named::OtherBoot, Named::from);
                }
                Location::NotResponding | Location::User => {}
            }
        }
    }
}

/// The crashes that a log tells of, the oldest first.
#[must_use]
pub fn crashes(log: &Log) -> Vec<Crash> {
    let mut crashes = Crashes::default();
    let mut decoder = Decoder::default();
    for entry in &log.entries {
        decoder.push(&entry.record, |decoded| crashes.take(&decoded, Some(entry)));
    }
    decoder.finish(|decoded| crashes.take(&decoded, None));
    crashes.found
}

/// Seconds in which a platform event like the one before is the same one, sent once more because the BMC's answer came
/// too late.
const SENT_AGAIN: u32 = 10;

#[derive(Default)]
struct Crashes {
    found: Vec<Crash>,
    /// The platform event of the last one, as long as nothing else is known of it.
    event: Option<[u8; 3]>,
    /// Nothing of the last one's words is lost so far, and this is their first line.
    at_start: bool,
}

impl Crashes {
    fn take(&mut self, decoded: &Decoded<'_>, entry: Option<&Entry>) {
        match *decoded {
            Decoded::Event(letters) => self.event(letters, entry.and_then(time)),
            Decoded::Crash(speaker) => {
                if self.event.take().is_none() {
                    self.found.push(Crash::default());
                }
                self.at_start = true;
                self.last().speaker = Some(speaker);
            }
            Decoded::Mark(stage) => {
                self.event = None;
                self.last().dump.push(stage);
            }
            Decoded::Line(line) => self.last().line(line),
            Decoded::Truncated(bytes) => {
                let first = self.at_start;
                self.last().cut(bytes, first);
            }
            Decoded::Headless(bytes) => self.last().fragments.push(Words::headless(bytes)),
            Decoded::Missing(records) => {
                let crash = self.last();
                crash.missing = crash.missing.saturating_add(u32::from(records));
            }
        }
        self.at_start &= matches!(decoded, Decoded::Crash(_));
    }

    /// The crash that is being told of.
    fn last(&mut self) -> &mut Crash {
        if self.found.is_empty() {
            self.found.push(Crash::default());
        }
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    fn event(&mut self, letters: [u8; 3], time: Option<Time>) {
        let again = self.event.replace(letters) == Some(letters)
            && self.found.last().is_some_and(|last| match (&last.time, &time) {
                (Some(Time::Seconds(one)), Some(Time::Seconds(other))) => one.abs_diff(*other) <= SENT_AGAIN,
                (one, other) => one == other,
            });
        if again {
            return;
        }
        // None are 0 or 0xff.
        let letters: Vec<_> =
            letters.into_iter().take_while(|letter| (b' '..=b'~').contains(letter)).collect();
        let reason = (!letters.is_empty()).then(|| Words::cut(&letters));
        self.found.push(Crash { time, reason, ..Crash::default() });
    }
}

impl Crash {
    fn line(&mut self, line: Line<'_>) {
        match line {
            Line::Reason(text) => self.reason = Some(Words::new(text)),
            Line::BuildId(id) => self.build_id = Some(id),
            Line::Panicked(CpuLocation { cpu, location }) => {
                self.panicked = Some(Panicked::Cpu(cpu, location.into()));
            }
            Line::PanickedUnknown => self.panicked = Some(Panicked::Unknown),
            // Of several the first; what else is said is kept as it is.
            Line::Cause(text) if self.cause.is_some() => self.fragments.push(Words::new(text)),
            Line::Cause(text) => self.cause = Some(Words::new(text)),
            Line::Rip(text) => self.rip = Some(Words::new(text).with_0x()),
            Line::Comm(text) => self.comm = Some(Words::new(text)),
            Line::Group { count, location } => self.groups.push(Group { count, at: location.into() }),
            Line::Omitted(count) => self.left_out = self.left_out.saturating_add(count),
            Line::Caller(text) => self.callers.push(Words::new(text)),
            Line::Corrupt(text) => self.damaged.push(Words::new(text)),
        }
    }

    /// A line whose end is lost. What it was about shows in its beginning, if that is long enough; what it says of
    /// numbers does not hold.
    fn cut(&mut self, bytes: &[u8], first: bool) {
        match sel::parse(bytes, first) {
            Line::Reason(text) => self.reason = Some(Words::cut(text)),
            // It is never longer.
            Line::BuildId(id) => self.build_id = Some(id),
            Line::Rip(text) => self.rip = Some(Words::cut(text).with_0x()),
            Line::Comm(text) => self.comm = Some(Words::cut(text)),
            Line::Caller(text) => self.callers.push(Words::cut(text)),
            _ => self.fragments.push(Words::cut(bytes)),
        }
    }
}

/// A record's time.
fn time(entry: &Entry) -> Option<Time> {
    if let Some(text) = &entry.time {
        return Some(Time::Listed(text.clone()));
    }
    let [_, _, _, t0, t1, t2, t3, ..] = entry.record;
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        NO_TIME => None,
        seconds if seconds <= LAST_UPTIME => Some(Time::Uptime(seconds)),
        seconds => Some(Time::Seconds(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastwords_core::store::sel;
    use proptest::{collection::vec, prelude::*, sample::Index};

    /// A crash as it was said, with the numbers of its records that are in the SEL.
    #[derive(Clone, Debug)]
    struct Said {
        linux: bool,
        lines: Vec<Vec<u8>>,
        kept: Vec<[u8; 16]>,
        /// Records lost before the last that is kept.
        missing: u32,
        /// Where the words break off within a line behind a full record, nothing shows that they do: what is left of
        /// that line.
        broken_off: Option<Vec<u8>>,
        marks: Vec<Stage>,
    }

    fn place() -> impl Strategy<Value = Location> {
        prop_oneof![
            Just(Location::NotResponding),
            Just(Location::User),
            any::<u32>().prop_map(Location::Kernel),
            any::<u64>().prop_map(Location::Address),
        ]
    }

    /// A text that is none of the other lines.
    fn text() -> impl Strategy<Value = String> {
        "[!-~]([ -~]{0,60}[!-~])?"
            .prop_filter("another line", |text| matches!(sel::parse(text.as_bytes(), true), Line::Reason(_)))
    }

    fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let bytes = |line: Line<'_>| sel::text(line).as_bytes().to_vec();
        let group = (1..=u32::MAX, place());
        let cpus = (any::<u32>(), any::<u32>(), place(), vec(group, 0..8), 0..3u32);
        (text(), text(), "[a-z_]{1,20}", vec("[a-z_]{1,20}", 0..3), cpus, any::<[bool; 6]>()).prop_map(
            move |(reason, cause, word, callers, (id, cpu, place, groups, left_out), has)| {
                let lines = [
                    Line::Reason(reason.as_bytes()),
                    Line::BuildId(id),
                    Line::Panicked(CpuLocation { cpu, location: place }),
                    Line::Cause(cause.as_bytes()),
                    Line::Rip(word.as_bytes()),
                    Line::Comm(word.as_bytes()),
                ];
                let lines = lines.into_iter().zip(has).filter(|(_, has)| *has).map(|(line, _)| line);
                // What comes first is the reason, whatever it was meant to be.
                let lines = lines.skip_while(|line| matches!(line, Line::Cause(_)));
                let groups =
                    groups.iter().map(|(count, place)| Line::Group { count: *count, location: *place });
                let left_out = (left_out > 0).then_some(Line::Omitted(left_out));
                let callers = callers.iter().map(|name| Line::Caller(name.as_bytes()));
                let lines: Vec<_> = lines.chain(groups).chain(left_out).chain(callers).map(bytes).collect();
                if lines.is_empty() { vec![bytes(Line::BuildId(id))] } else { lines }
            },
        )
    }

    fn said() -> impl Strategy<Value = Said> {
        let marks = vec(prop::sample::select(&Stage::ALL[..]), 0..3);
        (any::<bool>(), text(), lines(), vec(any::<Index>(), 0..4), marks).prop_map(
            |(linux, text, lines, lost, marks)| {
                let lines = if linux { vec![text.into_bytes()] } else { lines };
                let mut records = Vec::new();
                for line in &lines {
                    records.extend(sel::records(line, records.len() as u8));
                }
                if linux {
                    for record in &mut records {
                        record[4] &= 0x7f;
                    }
                }
                let mut kept = vec![true; records.len()];
                for lost in lost {
                    kept[lost.index(records.len())] = false;
                }
                let end = kept.iter().rposition(|kept| *kept).map_or(0, |last| last + 1);
                let missing = kept[..end].iter().filter(|kept| !**kept).count() as u32;
                let mut at = 0;
                let mut broken_off = None;
                for line in &lines {
                    let left = (end.saturating_sub(at) * sel::TEXT_LEN).min(line.len());
                    if 0 < left && left < line.len() {
                        broken_off = Some(line[..left].to_vec());
                    }
                    at += line.len().div_ceil(sel::TEXT_LEN);
                }
                let kept = records.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(record, _)| record);
                Said { linux, lines, kept: kept.collect(), missing, broken_off, marks }
            },
        )
    }

    /// Records of others: any type, any bytes, but not ours and not Linux's.
    fn foreign() -> impl Strategy<Value = [u8; 16]> {
        any::<[u8; 16]>().prop_map(|mut record| {
            match record[2] {
                0xf0 => record[3] = 0,
                0x02 => record[10] = 1,
                _ => {}
            }
            record
        })
    }

    /// Puts foreign records between.
    fn mixed(records: Vec<[u8; 16]>, foreign: &[(Index, [u8; 16])]) -> Log {
        let mut records = records;
        for (at, record) in foreign {
            records.insert(at.index(records.len() + 1), *record);
        }
        records.into_iter().collect()
    }

    /// All that is said in a crash, as lines; and what is left of cut ones.
    fn told(crash: &Crash) -> (Vec<Vec<u8>>, Vec<Words>) {
        let mut whole = Vec::new();
        let mut parts = crash.fragments.clone();
        let without_0x = |words: &Words| Words { text: words.text.replacen("+0x", "+", 1), ..words.clone() };
        let mut texts = |prefix: &str, words: Option<&Words>| {
            let Some(words) = words else { return };
            let words = without_0x(words);
            let text = format!("{prefix}{}", words.text);
            if words.cut || words.headless {
                parts.push(Words { text, ..words });
            } else {
                whole.push(text.into_bytes());
            }
        };
        texts("", crash.reason.as_ref());
        texts("", crash.cause.as_ref());
        texts("RIP ", crash.rip.as_ref());
        texts("Comm ", crash.comm.as_ref());
        crash.callers.iter().for_each(|caller| texts("< ", Some(caller)));
        crash.damaged.iter().for_each(|part| texts("bad ", Some(part)));
        let mut line = |line: Line<'_>| whole.push(sel::text(line).as_bytes().to_vec());
        crash.build_id.into_iter().for_each(|id| line(Line::BuildId(id)));
        match &crash.panicked {
            Some(Panicked::Cpu(cpu, at)) => {
                line(Line::Panicked(CpuLocation { cpu: *cpu, location: at.place }));
            }
            Some(Panicked::Unknown) => line(Line::PanickedUnknown),
            None => {}
        }
        for Group { count, at } in &crash.groups {
            line(Line::Group { count: *count, location: at.place });
        }
        if crash.left_out > 0 {
            line(Line::Omitted(crash.left_out));
        }
        (whole, parts)
    }

    proptest! {
        #[test]
        fn what_is_told_was_said_and_what_is_lost_is_told(
            all in vec(said(), 1..4),
            others in vec((any::<Index>(), foreign()), 0..12),
        ) {
            let mut records = Vec::new();
            for (index, said) in all.iter().enumerate() {
                records.push(sel::event_record([b'a', b'b', index as u8 + b'0']));
                records.extend(&said.kept);
                records.extend(said.marks.iter().map(|stage| sel::mark(*stage)));
            }
            let crashes = crashes(&mixed(records, &others));
            prop_assert_eq!(crashes.len(), all.len());
            for (said, crash) in all.iter().zip(&crashes) {
                prop_assert_eq!(crash.missing, said.missing);
                // The same mark twice in a row is one that was sent again.
                let mut marks = said.marks.clone();
                marks.dedup();
                prop_assert_eq!(&crash.dump, &marks);
                let (mut whole, mut parts) = told(crash);
                // The platform event's three letters stand in for a reason that is not said.
                parts.retain(|part| !(part.cut && part.text.starts_with("ab")));
                let mut lines = said.lines.clone();
                if let Some(left) = &said.broken_off {
                    let line = match sel::parse(left, lines.len() == 1) {
                        Line::Reason(text) | Line::Cause(text) => text.trim_ascii_end().to_vec(),
                        line => sel::text(line).as_bytes().trim_ascii_end().to_vec(),
                    };
                    lines.push(line);
                }
                if said.missing == 0 && parts.is_empty() && whole.len() == lines.len() {
                    whole.sort();
                    lines.sort();
                    prop_assert_eq!(&whole, &lines);
                    prop_assert_eq!(crash.speaker == Some(Source::Linux), said.linux);
                    continue;
                }
                // Each line that is told was said, and each part is one of a line that was said.
                for line in whole {
                    let at = lines.iter().position(|said| *said == line);
                    prop_assert!(at.is_some(), "{:?} was never said: {said:?}", String::from_utf8_lossy(&line));
                    lines.remove(at.unwrap());
                }
                for part in parts {
                    let is_of = |line: &Vec<u8>| {
                        let line = String::from_utf8_lossy(line);
                        match (part.headless, part.cut) {
                            (true, _) => line.contains(part.text.as_str()),
                            (false, _) => line.starts_with(part.text.as_str()),
                        }
                    };
                    prop_assert!(lines.iter().any(is_of), "{part:?} was never said: {said:?}");
                }
            }
        }

        #[test]
        fn any_records_are_taken(records in vec(prop_oneof![
            any::<[u8; 16]>(),
            any::<[u8; 16]>().prop_map(|mut record| { record[2..4].copy_from_slice(&[0xf0, 0x20]); record }),
            any::<[u8; 3]>().prop_map(sel::event_record),
            prop::sample::select(&Stage::ALL[..]).prop_map(sel::mark),
        ], 0..300)) {
            for crash in crashes(&records.into_iter().collect()) {
                let _ = (crash.is_rehearsal(), crash.cpus(), crash.needs_symbols());
            }
        }
    }

    fn event(letters: [u8; 3], time: u32) -> [u8; 16] {
        let mut record = sel::event_record(letters);
        record[3..7].copy_from_slice(&time.to_le_bytes());
        record
    }

    #[test]
    fn the_time_is_the_platform_events() {
        let shown = |records: &[[u8; 16]]| -> Vec<_> {
            let crashes = crashes(&records.iter().copied().collect());
            crashes.iter().map(|crash| crash.time.as_ref().map(Time::to_string)).collect()
        };
        let day = |text: &str| Some(text.to_owned());
        assert_eq!(shown(&[event(*b"sys", 1795364230)]), [day("Sun 22 Nov 2026 16:17:10")]);
        assert_eq!(shown(&[event(*b"sys", 90)]), [day("90 s after the BMC's start")]);
        assert_eq!(shown(&[event(*b"sys", u32::MAX)]), [None]);
        // Sent again because the answer came late; and another crash.
        let first = 1795364230;
        let twice = [event(*b"sys", first), event(*b"sys", first + 5)];
        assert_eq!(shown(&twice), [day("Sun 22 Nov 2026 16:17:10")]);
        assert_eq!(shown(&[twice[0], event(*b"sys", first + 60)]).len(), 2);
        let id = sel::records(b"id 5f3e9a1b", 0).next().unwrap();
        assert_eq!(shown(&[twice[0], id, twice[1]]).len(), 2);
    }
}
