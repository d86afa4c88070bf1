//! Reads reports out of a System Event Log: finds the records among foreign ones, puts lines together again, and
//! tells what is missing.
//!
//! A crash's records are collected until something shows that the crash is over, because not every log is read in the
//! order in which it was written; only then are its lines handed on.

use super::encode::{
    CALLER, COMM, CORRUPT, CRASH_ID, ETX, ID, LINUX, MARK, NOT_RESPONDING, OFF, OFF_OR_NOT_RESPONDING,
    PANICKED_UNKNOWN, RECORD_TYPE, RESTORED, RIP, SIGNATURE, STARTS_LINE, STX, TEXT_LEN, UNREAD, UPPER, USER,
    text,
};
use crate::ipmi::commands::{GENERATOR, SENSOR_SPECIFIC, SYSTEM_EVENT};
use crate::ipmi::sel_writer::{CRITICAL_STOP, CRITICAL_STOP_TEXT, EVENT_LEN, OS_STOP};
use crate::report::{CpuLocation, CrashId, Line, Location, Stage};
use crate::text::{Text, hex};

/// Who wrote a crash's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// We did.
    Lastwords,
    /// Linux's own IPMI driver (`ipmi_msghandler.panic_op=string`): one text, the reason.
    Linux,
}

/// What the decoder finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A platform event of a panic, with its three characters (0 or 0xff where it has none). It comes before the lines
    /// of its crash, and from [`Decoder::push`] of its own record, whose time stamp is the crash's.
    Event([u8; EVENT_LEN]),
    /// A crash's report begins.
    Crash(Source),
    /// A line whose records are all here.
    Line(Line<'a>),
    /// The beginning of a line whose end is lost.
    Truncated(&'a [u8]),
    /// The end of a line whose beginning is lost.
    Headless(&'a [u8]),
    /// So many records are lost here.
    Missing(u8),
    /// How far the dump came.
    Mark(Stage),
}

/// Records that are out of order by at most this many places are put in order. A greater step back is another crash.
const DISORDER: usize = 4;
/// Sequence numbers.
const NUMBERS: usize = 128;
/// Longest line that is put together: all records of a crash.
const TEXT: usize = NUMBERS * TEXT_LEN;
/// Most marks of one crash that are kept.
const MARKS: usize = 8;

/// Puts lines together again from SEL records.
///
/// ```
/// use lastwords_core::report::Line;
/// use lastwords_core::store::sel::{Decoded, Decoder, records};
///
/// let mut decoder = Decoder::default();
/// let mut reason = String::new();
/// let mut found = |decoded: Decoded| {
///     if let Decoded::Line(Line::Reason(text)) = decoded {
///         reason = String::from_utf8_lossy(text).into_owned();
///     }
/// };
/// for record in records(b"sysrq triggered crash", 0) {
///     decoder.push(&record, &mut found);
/// }
/// decoder.finish(&mut found);
/// assert_eq!(reason, "sysrq triggered crash");
/// ```
///
/// What tells one crash from the next: a platform event between them, a
/// sequence number that was there already, or a step back in the sequence.
pub struct Decoder {
    /// The crash's records by number: does a line start, and the text.
    slots: [Option<(bool, [u8; TEXT_LEN])>; NUMBERS],
    /// The highest number among them.
    highest: Option<usize>,
    /// The last text record, to know one that was sent twice.
    last: Option<(u8, [u8; TEXT_LEN])>,
    /// A stream of characters from system event records that is under way.
    stream: Option<Text<TEXT>>,
    /// One that is at its end, and whether that end was seen.
    streamed: Option<(Text<TEXT>, bool)>,
    marks: [Option<Stage>; MARKS],
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            slots: [None; NUMBERS],
            highest: None,
            last: None,
            stream: None,
            streamed: None,
            marks: [None; MARKS],
        }
    }
}

impl Decoder {
    /// Takes the next record and hands on what it completes.
    pub fn push(&mut self, record: &[u8; 16], mut found: impl FnMut(Decoded)) {
        match *record {
            [_, _, RECORD_TYPE, LINUX, number, ref text @ ..] => self.text_record(number, text, &mut found),
            [
                _,
                _,
                SYSTEM_EVENT,
                _,
                _,
                _,
                _,
                GENERATOR,
                _,
                _,
                OS_STOP,
                number,
                SENSOR_SPECIFIC,
                data1,
                data2,
                data3,
            ] => {
                let text = [number, data2, data3];
                match data1 {
                    CRITICAL_STOP_TEXT if self.stream.is_some() || number == STX => {
                        self.stream_record(text, &mut found);
                    }
                    CRITICAL_STOP | CRITICAL_STOP_TEXT => {
                        self.flush(&mut found);
                        found(Decoded::Event(text));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The end of the log: hands on what is left.
    pub fn finish(mut self, mut found: impl FnMut(Decoded)) {
        self.end_stream(false, &mut found);
        self.flush(&mut found);
    }

    fn text_record(&mut self, byte: u8, text: &[u8; TEXT_LEN], found: &mut impl FnMut(Decoded)) {
        self.end_stream(false, found);
        // A BMC that answered too late was sent the same record once more.
        if self.last.replace((byte, *text)) == Some((byte, *text)) {
            return;
        }
        let (starts, number) = (byte & STARTS_LINE != 0, usize::from(byte & !STARTS_LINE));
        if byte == STARTS_LINE | MARK
            && let Some(stage) = Stage::parse(text_of(text))
        {
            self.mark(stage);
            return;
        }
        let linux = matches!(self.slots.first(), Some(Some((false, _))));
        let here = self.slots.get(number).is_some_and(Option::is_some);
        let back = self.highest.is_some_and(|highest| number + DISORDER < highest);
        if here || back || linux && starts || number == 0 && !starts || self.streamed.is_some() {
            self.flush(found);
        }
        if let Some(slot) = self.slots.get_mut(number) {
            *slot = Some((starts, *text));
            self.highest = self.highest.max(Some(number));
        }
    }

    fn stream_record(&mut self, text: [u8; EVENT_LEN], found: &mut impl FnMut(Decoded)) {
        self.last = None;
        for byte in text {
            match byte {
                STX => {
                    self.end_stream(false, found);
                    self.stream = Some(Text::new());
                }
                ETX => self.end_stream(true, found),
                0 => {}
                _ => {
                    if let Some(stream) = &mut self.stream {
                        stream.byte(if matches!(byte, b'\n' | 0x20..=0x7e) { byte } else { b'?' });
                    }
                }
            }
        }
    }

    /// A stream ends: it was a mark, or it is a crash of its own.
    fn end_stream(&mut self, whole: bool, found: &mut impl FnMut(Decoded)) {
        let Some(stream) = self.stream.take() else { return };
        if let Some(stage) = Stage::parse(stream.as_bytes()) {
            self.mark(stage);
        } else {
            self.flush(found);
            self.streamed = Some((stream, whole));
        }
    }

    fn mark(&mut self, stage: Stage) {
        if let Some(slot) = self.marks.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(stage);
        }
    }

    /// Hands on the crash that is held, and what the dump kernel reported.
    fn flush(&mut self, found: &mut impl FnMut(Decoded)) {
        if let Some((text, whole)) = self.streamed.take() {
            found(Decoded::Crash(Source::Lastwords));
            let mut lines = text.as_bytes().split(|byte| *byte == b'\n').enumerate().peekable();
            while let Some((index, line)) = lines.next() {
                let cut = !whole && lines.peek().is_none();
                found(if cut { Decoded::Truncated(line) } else { Decoded::Line(parse(line, index == 0)) });
            }
        }
        if self.highest.take().is_some() {
            let slots = core::mem::replace(&mut self.slots, [None; NUMBERS]);
            records(&slots, found);
        }
        for stage in core::mem::take(&mut self.marks).into_iter().flatten() {
            found(Decoded::Mark(stage));
        }
        self.last = None;
    }
}

/// The line that has this text. Text that is nothing else is the reason where it comes `first`, and a cause anywhere
/// else.
#[must_use]
pub fn parse(bytes: &[u8], first: bool) -> Line<'_> {
    let other = if first { Line::Reason(bytes) } else { Line::Cause(bytes) };
    // What would be written otherwise is not one of ours, or it is cut.
    parse_marked(bytes).filter(|line| text(*line).as_bytes() == bytes).unwrap_or(other)
}

fn parse_marked(text: &[u8]) -> Option<Line<'_>> {
    let number = |text| u32::try_from(hex(text)?).ok();
    let behind = |prefix: &str| text.strip_prefix(prefix.as_bytes());
    if let Some(id) = behind(ID) {
        return if id.len() == 8 { Some(Line::BuildId(number(id)?)) } else { None };
    }
    if let Some(id) = behind(CRASH_ID) {
        return CrashId::parse(id).map(Line::CrashId);
    }
    if let Some(signature) = behind(SIGNATURE) {
        return number(signature).map(Line::Signature);
    }
    if let Some(rest) = behind(RIP) {
        return Some(Line::Rip(rest));
    }
    if let Some(rest) = behind(COMM) {
        return Some(Line::Comm(rest));
    }
    if let Some(rest) = behind(CALLER) {
        return Some(Line::Caller(rest));
    }
    if let Some(rest) = behind(CORRUPT) {
        return Some(Line::Corrupt(rest));
    }
    if let Some(rest) = behind(RESTORED) {
        return Some(Line::Restored(rest));
    }
    if text == PANICKED_UNKNOWN.as_bytes() {
        return Some(Line::PanickedUnknown);
    }
    if let Some(count) = behind("+") {
        return Some(Line::Omitted(number(count)?));
    }
    let at = text.iter().position(|byte| matches!(byte, b'=' | b'*'))?;
    let (left, right) = text.split_at_checked(at)?;
    let (sign, location) = right.split_first()?;
    let (left, location) = (number(left)?, parse_location(core::str::from_utf8(location).ok()?)?);
    Some(match sign {
        b'=' => Line::Panicked(CpuLocation { cpu: left, location }),
        _ => Line::Group { count: left, location },
    })
}

fn parse_location(text: &str) -> Option<Location> {
    match text {
        NOT_RESPONDING => Some(Location::NotResponding),
        OFF => Some(Location::Off),
        OFF_OR_NOT_RESPONDING => Some(Location::OffOrNotResponding),
        UNREAD => Some(Location::Unread),
        USER => Some(Location::User),
        _ => match text.strip_prefix('@') {
            Some(address) if address.len() == 8 => Some(Location::Address(UPPER + hex(address.as_bytes())?)),
            Some(address) => Some(Location::Address(hex(address.as_bytes())?)),
            None => Some(Location::Kernel(u32::try_from(hex(text.as_bytes())?).ok()?)),
        },
    }
}

/// The text of one record.
fn text_of(text: &[u8; TEXT_LEN]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or(text)
}

/// A line that is being put together.
struct Assembly {
    text: Text<TEXT>,
    /// Number of its first record.
    start: usize,
    /// Is its beginning lost?
    tail: bool,
    /// Is it known to be at its end, because its last record is not full?
    ended: bool,
}

/// Hands on the lines of one crash's records.
fn records(slots: &[Option<(bool, [u8; TEXT_LEN])>; NUMBERS], found: &mut impl FnMut(Decoded)) {
    // Linux starts no lines, its text is one.
    let linux = !slots.iter().flatten().any(|(starts, _)| *starts);
    found(Decoded::Crash(if linux { Source::Linux } else { Source::Lastwords }));
    let mut held: Option<Assembly> = None;
    let mut next = 0;
    for (number, slot) in slots.iter().enumerate() {
        let Some((starts, text)) = slot else { continue };
        let starts = *starts || linux && number == 0;
        if starts || number != next {
            finish_line(held.take(), number == next, linux, found);
        }
        if number != next {
            found(Decoded::Missing((number - next) as u8));
        }
        let line = held.get_or_insert_with(|| Assembly {
            text: Text::new(),
            start: number,
            tail: !starts,
            ended: false,
        });
        line.text.bytes(text_of(text));
        line.ended = text_of(text).len() < TEXT_LEN;
        next = number + 1;
    }
    finish_line(held, true, linux, found);
}

/// Hands on a line. `whole`: nothing is missing behind it.
fn finish_line(line: Option<Assembly>, whole: bool, linux: bool, found: &mut impl FnMut(Decoded)) {
    let Some(line) = line else { return };
    let text = line.text.as_bytes();
    if text.is_empty() {
        return;
    }
    found(match (line.tail, whole || line.ended) {
        (true, _) => Decoded::Headless(text),
        (false, false) => Decoded::Truncated(text),
        (false, true) if linux => Decoded::Line(Line::Reason(text)),
        (false, true) => Decoded::Line(parse(text, line.start == 0)),
    });
}
