//! Which lines of a report go into a store, in which order, and what is cut: the room is the store's, and most BMCs
//! have little of it.

use super::{Cause, Groups, Line};
use crate::text::Text;

/// What marks a reason that was cut.
const CUT: &str = "..";
/// Longest reason, in bytes.
const REASON_LEN: usize = 128;

/// What room a line takes in a store, in the store's own units (SEL records, bytes).
pub trait Cost {
    /// Units that a typical crash shall not exceed: callers are named only as far as that leaves room.
    const TYPICAL: u32;
    /// Units that a line takes.
    fn line(line: Line) -> u32;
    /// Bytes of text that so many units hold.
    fn text(units: u32) -> usize;
}

/// What of a report is to be stored.
#[derive(Default)]
pub struct Content<'a> {
    /// Why it panicked.
    pub cause: Option<&'a Cause>,
    /// The kernel's build id.
    pub build_id: Option<u32>,
    /// The CPU that panicked: [`Line::Panicked`] or [`Line::PanickedUnknown`].
    pub panicked: Option<Line<'a>>,
    /// The other CPUs. They are taken out.
    pub groups: Option<&'a mut Groups>,
}

/// Hands on the lines that `limit` has room for by the cost `C`, most important first, until `line` returns false: the
/// reason, the build id, the panicked CPU, what led to it, the other CPUs in groups, callers. Where there is room for
/// little, the reason is cut and the build id left out before the panicked CPU is.
pub fn lines<C: Cost>(limit: u32, content: &mut Content, line: &mut dyn FnMut(Line) -> bool) {
    let mut room = Room { left: limit, going: true, line };
    let none = Cause::default();
    let cause = content.cause.unwrap_or(&none);
    let cost = |line: Option<Line>| line.map_or(0, C::line);
    let panicked = cost(content.panicked);
    let reason = cut(cause.reason.as_bytes(), C::text(limit.saturating_sub(panicked).max(1)));
    let reason = Line::Reason(reason.as_bytes());
    let id = content.build_id.map(Line::BuildId);
    let id = id.filter(|_| limit >= C::line(reason) + cost(id) + panicked);
    // Where there was no panic the report is the reason already.
    let report = cause.report.as_bytes();
    let report = if report == cause.reason.as_bytes() { &[] } else { report };
    for line in [Some(reason), id, content.panicked].into_iter().flatten() {
        room.add::<C>(line);
    }
    // How many CPUs are left out fits into one unit, and counts for more than one more detail.
    let reserve = u32::from(content.groups.is_some()).min(room.left);
    room.left -= reserve;
    for line in [Line::Cause(report), Line::Rip(cause.rip.as_bytes()), Line::Comm(cause.comm.as_bytes())] {
        room.add::<C>(line);
    }
    room.left += reserve;
    if let Some(groups) = &mut content.groups {
        groups.lines(room.left, C::line, &mut |line| room.add::<C>(line));
    }
    room.left = room.left.saturating_sub(limit.saturating_sub(C::TYPICAL));
    for caller in &cause.callers {
        room.add::<C>(Line::Caller(caller.as_bytes()));
    }
}

/// What room there is for lines.
struct Room<'a> {
    left: u32,
    going: bool,
    line: &'a mut dyn FnMut(Line) -> bool,
}

impl Room<'_> {
    /// Hands on a line that has a text and fits; returns whether to go on.
    fn add<C: Cost>(&mut self, line: Line) -> bool {
        let empty = matches!(
            line,
            Line::Reason([]) | Line::Cause([]) | Line::Rip([]) | Line::Comm([]) | Line::Caller([])
        );
        if let Some(left) = self.left.checked_sub(C::line(line)).filter(|_| self.going && !empty) {
            self.left = left;
            self.going = (self.line)(line);
        }
        self.going
    }
}

/// The text, in at most `room` bytes; what is cut ends in `..`.
#[must_use]
pub fn cut(text: &[u8], room: usize) -> Text<REASON_LEN> {
    let mut short = Text::new();
    if text.len() <= room {
        short.bytes(text);
    } else {
        short.bytes(text.get(..room.saturating_sub(CUT.len())).unwrap_or(text)).str(CUT);
    }
    short
}
