//! The words in the System Event Log: lines of text in records of the type that Linux's own IPMI driver uses for
//! panic text, so that every tool shows them. Encoder and decoder stand side by side because they are one format;
//! `docs/sel-format.md` describes it for people.

use crate::text::{Text, hex};

/// Text bytes in one record.
pub const TEXT_LEN: usize = 11;
/// Byte 2, the record type: OEM, without time stamp (IPMI 2.0 section 32.3).
const RECORD_TYPE: u8 = 0xf0;
/// Byte 3, as Linux writes it (`drivers/char/ipmi/ipmi_msghandler.c`): its own slave address.
const LINUX: u8 = 0x20;
/// Byte 4, bit 7: a line starts with this record. Linux never sets it, so its own panic text is told apart; and
/// where records are lost, the lines behind the gap are still found.
const STARTS_LINE: u8 = 0x80;
/// Longest line that the decoder holds, in bytes. What is longer is cut.
pub const LINE_LEN: usize = 512;

/// The upper 4 GiB of virtual memory, where the kernel's image and its modules lie. Eight digits behind an `@` are an
/// address there.
const UPPER: u64 = 0xffff_ffff_0000_0000;

/// Where a CPU was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It never answered the NMI that stops all CPUs.
    Dead,
    /// In user space.
    User,
    /// In the kernel's image, this many bytes from `_stext` on.
    Kernel(u32),
    /// At this address, which is not in the kernel's image, or it is not known where that lies.
    Address(u64),
}

impl Place {
    fn write<const N: usize>(self, text: &mut Text<N>) {
        match self {
            Self::Dead => text.str("dead"),
            Self::User => text.str("user"),
            Self::Kernel(offset) => text.hex(u64::from(offset)),
            // The kernel's half of the upper 4 GiB goes without saying: an address in a module fits one record.
            Self::Address(address) if address >= UPPER => text.byte(b'@').hex_padded(address - UPPER, 8),
            Self::Address(address) if address >> 28 != 0 && address >> 32 == 0 => {
                text.byte(b'@').hex_padded(address, 9)
            }
            Self::Address(address) => text.byte(b'@').hex(address),
        };
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "dead" => Some(Self::Dead),
            "user" => Some(Self::User),
            _ => match text.strip_prefix('@') {
                Some(address) if address.len() == 8 => Some(Self::Address(UPPER + hex(address.as_bytes())?)),
                Some(address) => Some(Self::Address(hex(address.as_bytes())?)),
                None => Some(Self::Kernel(u32::try_from(hex(text.as_bytes())?).ok()?)),
            },
        }
    }
}

/// One line of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// `id 5f3e9a1b`: the first four bytes of the kernel's build id.
    BuildId(u32),
    /// `1=9c2a36`: the CPU that panicked, and where.
    Panicked {
        /// The kernel's number of the CPU.
        cpu: u32,
        /// Where it was.
        place: Place,
    },
    /// `?=?`: nothing tells which CPU panicked; it is among the groups.
    PanickedUnknown,
    /// `fe*103f0`: so many other CPUs in one place.
    Group {
        /// How many, at least 1.
        count: u32,
        /// Where they were.
        place: Place,
    },
    /// `+1f`: so many CPUs left out, because the record limit was reached.
    LeftOut(u32),
}

impl Line {
    /// The line's text.
    #[must_use]
    pub fn text(self) -> Text<32> {
        let mut text = Text::new();
        match self {
            Self::BuildId(id) => {
                text.str("id ").hex_padded(u64::from(id), 8);
            }
            Self::Panicked { cpu, place } => place.write(text.hex(u64::from(cpu)).byte(b'=')),
            Self::PanickedUnknown => {
                text.str("?=?");
            }
            Self::Group { count, place } => place.write(text.hex(u64::from(count)).byte(b'*')),
            Self::LeftOut(count) => {
                text.byte(b'+').hex(u64::from(count));
            }
        }
        text
    }

    /// The line that has this text; `None` when it is free text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| u32::try_from(hex(text.as_bytes())?).ok();
        if let Some(id) = text.strip_prefix("id ") {
            return if id.len() == 8 { Some(Self::BuildId(number(id)?)) } else { None };
        }
        if text == "?=?" {
            return Some(Self::PanickedUnknown);
        }
        if let Some(count) = text.strip_prefix('+') {
            return Some(Self::LeftOut(number(count)?));
        }
        if let Some((cpu, place)) = text.split_once('=') {
            return Some(Self::Panicked { cpu: number(cpu)?, place: Place::parse(place)? });
        }
        let (count, place) = text.split_once('*')?;
        Some(Self::Group { count: number(count)?, place: Place::parse(place)? })
    }

    /// How many records the line takes.
    #[must_use]
    pub fn records(self) -> u32 {
        self.text().as_bytes().len().div_ceil(TEXT_LEN) as u32
    }
}

/// The records of a line of text, the first one with sequence number `first` (modulo 128).
pub fn records(text: &[u8], first: u8) -> impl Iterator<Item = [u8; 16]> {
    text.chunks(TEXT_LEN).enumerate().map(move |(index, chunk)| {
        let sequence = first.wrapping_add(index as u8) & !STARTS_LINE;
        let mut record = [
            0,
            0,
            RECORD_TYPE,
            LINUX,
            sequence | if index == 0 { STARTS_LINE } else { 0 },
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        for (slot, byte) in record.iter_mut().skip(16 - TEXT_LEN).zip(chunk) {
            *slot = *byte;
        }
        record
    })
}

/// What the decoder finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A crash begins: its first record is here, or a sequence number that does not go on from the one before.
    Crash,
    /// A line whose records are all here.
    Line(Line),
    /// A line of free text whose records are all here.
    Text(&'a [u8]),
    /// The beginning of a line whose end is lost.
    Cut(&'a [u8]),
    /// The end of a line whose beginning is lost.
    Tail(&'a [u8]),
    /// So many records are lost here, counted modulo 128.
    Missing(u8),
}

/// Puts lines together again from SEL records in the order of the log; foreign ones are passed over. Lost records
/// are told by the gaps in the sequence; a crash begins where the sequence starts again.
#[derive(Default)]
pub struct Decoder {
    line: Text<LINE_LEN>,
    /// Is the beginning of `line` lost?
    tail: bool,
    /// Is `line` known to be at its end, because its last record is not full?
    ended: bool,
    expected: Option<u8>,
}

impl Decoder {
    /// Is this one of our records?
    #[must_use]
    pub fn is_ours(record: &[u8; 16]) -> bool {
        let [_, _, record_type, maker, ..] = *record;
        record_type == RECORD_TYPE && maker == LINUX
    }

    /// Takes the next record and hands on what it completes.
    pub fn push(&mut self, record: &[u8; 16], mut found: impl FnMut(Decoded)) {
        if !Self::is_ours(record) {
            return;
        }
        let [_, _, _, _, number, text @ ..] = record;
        let (starts, number) = (number & STARTS_LINE != 0, number & !STARTS_LINE);
        let missing = self.expected.map(|expected| number.wrapping_sub(expected) & !STARTS_LINE);
        match missing {
            Some(0) => {
                if starts {
                    self.flush(true, &mut found);
                }
            }
            // A first record, or a step back: another crash.
            Some(_) if number == 0 && starts => {
                self.flush(true, &mut found);
                found(Decoded::Crash);
            }
            Some(missing) => {
                self.flush(false, &mut found);
                found(Decoded::Missing(missing));
                self.tail = !starts;
            }
            None => {
                found(Decoded::Crash);
                if number > 0 {
                    found(Decoded::Missing(number));
                }
                self.tail = !starts;
            }
        }
        let len = text.iter().position(|byte| *byte == 0).unwrap_or(TEXT_LEN);
        for byte in text.iter().take(len) {
            self.line.byte(*byte);
        }
        self.ended = len < TEXT_LEN;
        self.expected = Some(number.wrapping_add(1) & !STARTS_LINE);
    }

    /// The end of the log: hands on what is left.
    pub fn finish(mut self, mut found: impl FnMut(Decoded)) {
        self.flush(true, &mut found);
    }

    /// Hands on the line that is held. `whole`: nothing is missing behind it.
    fn flush(&mut self, whole: bool, found: &mut impl FnMut(Decoded)) {
        let line = core::mem::take(&mut self.line);
        let text = line.as_bytes();
        if !text.is_empty() {
            found(match (self.tail, whole || self.ended) {
                (true, _) => Decoded::Tail(text),
                (false, false) => Decoded::Cut(text),
                (false, true) => match core::str::from_utf8(text).ok().and_then(Line::parse) {
                    Some(line) => Decoded::Line(line),
                    None => Decoded::Text(text),
                },
            });
        }
        self.tail = false;
        self.ended = false;
    }
}

/// Most different places that are counted. CPUs in more places than these are left out.
pub const GROUPS: usize = 512;

/// CPUs counted by where they were.
pub struct Groups {
    places: [(Place, u32); GROUPS],
    used: usize,
    beyond: u32,
}

impl Default for Groups {
    fn default() -> Self {
        Self::new()
    }
}

impl Groups {
    /// No CPU yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { places: [(Place::Dead, 0); GROUPS], used: 0, beyond: 0 }
    }

    /// Counts a CPU.
    pub fn add(&mut self, place: Place) {
        if let Some((_, count)) = self.places.iter_mut().take(self.used).find(|(known, _)| *known == place) {
            *count += 1;
        } else if let Some(slot) = self.places.get_mut(self.used) {
            *slot = (place, 1);
            self.used += 1;
        } else {
            self.beyond += 1;
        }
    }

    /// Takes the biggest group out; the one that died first among equals.
    fn take_biggest(&mut self) -> Option<Line> {
        let groups = self.places.iter_mut().take(self.used).filter(|(_, count)| *count > 0);
        let (place, count) = groups.max_by_key(|(place, count)| (*count, core::cmp::Reverse(*place)))?;
        Some(Line::Group { count: core::mem::take(count), place: *place })
    }

    /// CPUs that are still in.
    fn left(&self) -> u32 {
        self.places.iter().take(self.used).map(|(_, count)| *count).fold(self.beyond, u32::saturating_add)
    }

    /// Hands on the groups' lines, biggest first, in at most `limit` records; the last line says how many CPUs
    /// were left out, if any. Empties the groups. Stops early when `line` says so by returning false.
    pub fn lines(&mut self, limit: u32, mut line: impl FnMut(Line) -> bool) {
        let mut used = 0;
        while let Some(group) = self.take_biggest() {
            let Line::Group { count, .. } = group else { return };
            let left = self.left();
            // Room for the last line is kept until it is certain that there is nothing to say in it.
            let kept = if left == 0 { 0 } else { Line::LeftOut(left).records() };
            if used + group.records() + kept > limit {
                line(Line::LeftOut(left.saturating_add(count)));
                return;
            }
            used += group.records();
            if !line(group) {
                return;
            }
        }
        if self.left() > 0 {
            line(Line::LeftOut(self.left()));
        }
    }
}
