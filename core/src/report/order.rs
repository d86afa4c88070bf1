//! Which lines of a report go into a store, in which order, and what is cut: the room is the store's, and most BMCs
//! have little of it.

use super::{Cause, CrashId, Groups, Line, signature};
use crate::text::Text;

/// What marks a reason that was cut.
pub const CUT: &[u8] = b"..";
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
    /// What the crash is known by.
    pub id: Option<CrashId>,
    /// The CPU that panicked: [`Line::Panicked`] or [`Line::PanickedUnknown`].
    pub panicked: Option<Line<'a>>,
    /// There is no dump kernel.
    pub no_dump: bool,
    /// The other CPUs. They are taken out.
    pub groups: Option<&'a mut Groups>,
}

/// Hands on the lines that `limit` has room for by the cost `C`, most important first: the reason, the build id, the
/// panicked CPU, what led to it, what crash and cause are known by, the other CPUs in groups, callers. Where there is room
/// for little, the reason is cut and the build id left out before the panicked CPU is.
///
/// `line` gets each line and the room that is left behind it, and returns what is left in truth: less where the store
/// knows better by now, 0 where it takes no more.
#[inline(never)]
pub fn lines<C: Cost>(limit: u32, content: &mut Content, line: &mut dyn FnMut(Line, u32) -> u32) {
    let mut room = Room { left: limit, line };
    let none = Cause::default();
    let cause = content.cause.unwrap_or(&none);
    let panicked = content.panicked.map_or(0, C::line);
    let reason = cut(cause.reason.as_bytes(), C::text(limit.saturating_sub(panicked).max(1)));
    room.add::<C>(Line::Reason(reason.as_bytes()));
    // Where there was no panic the report is the reason already.
    let report = cause.report.as_bytes();
    let report = if report == cause.reason.as_bytes() { &[] } else { report };
    if let Some(id) = content.build_id.map(Line::BuildId).filter(|id| room.left >= C::line(*id) + panicked) {
        room.add::<C>(id);
    }
    if let Some(panicked) = content.panicked {
        room.add::<C>(panicked);
    }
    // How many CPUs are left out fits into one unit, and counts for more than one more detail.
    let reserve = u32::from(content.groups.is_some()).min(room.left);
    room.left -= reserve;
    for line in [Line::Cause(report), Line::Rip(cause.rip.as_bytes()), Line::Comm(cause.comm.as_bytes())] {
        room.add::<C>(line);
    }
    // They tell people nothing, so they come behind what does.
    if let Some(id) = content.id {
        room.add::<C>(Line::CrashId(id));
    }
    if let Some(signature) = signature(cause) {
        room.add::<C>(Line::Signature(signature));
    }
    if content.no_dump {
        room.add::<C>(Line::NoDump);
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
    line: &'a mut dyn FnMut(Line, u32) -> u32,
}

impl Room<'_> {
    /// Hands on a line that has a text and fits; returns whether there is room for more.
    fn add<C: Cost>(&mut self, line: Line) -> bool {
        let empty = matches!(
            line,
            Line::Reason([]) | Line::Cause([]) | Line::Rip([]) | Line::Comm([]) | Line::Caller([])
        );
        if let Some(left) = self.left.checked_sub(C::line(line)).filter(|_| !empty) {
            self.left = (self.line)(line, left).min(left);
        }
        self.left > 0
    }
}

/// The text, in at most `room` bytes; what is cut ends in `..`.
#[must_use]
pub fn cut(text: &[u8], room: usize) -> Text<REASON_LEN> {
    let mut short = Text::new();
    if text.len() <= room {
        short.bytes(text);
    } else {
        short.bytes(text.get(..room.saturating_sub(CUT.len())).unwrap_or(text)).bytes(CUT);
    }
    short
}
