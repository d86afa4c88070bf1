//! Time: how much has passed, and deadlines, from clocks that may lie; and the one place in which anything waits.
//!
//! Three clocks count, and the one that is ahead is taken, so that one which stops or crawls cannot make a wait
//! longer: the clock of seconds (correct where it works), the CPU's counter (fine, if its frequency is known or two
//! seconds have told it; until then 2 GHz are presumed), and the number of register accesses that asking costs. The
//! last one ends every loop even when both clocks are dead. It is slower than any real machine as long as there is
//! another clock, so that it never decides on a healthy one, and true to an LPC bus where there is none. A clock that
//! runs ahead makes us report less, never hand over later.
//!
//! What comes last ([`Timer::grant`]) gets a little time of its own, by rules of its own: a clock that has leapt would
//! leave it nothing, and one that has stopped would let it go on for ever.

use crate::hw::{Clock, DAY};

/// Milliseconds since [`Timer::start`].
pub type Millis = u32;

/// Register accesses in a millisecond where no other clock goes: an LPC bus takes about a microsecond for each.
pub const ACCESSES_PER_MS: u64 = 1000;
/// Where another clock goes each access counts so much less: no bus does ten a microsecond.
pub const BESIDE_A_CLOCK: u64 = 10;

/// An access takes a tenth of a microsecond at least, and at most what it takes where it is trapped (by SMM, by a
/// hypervisor in a hypervisor). In nanoseconds.
pub const ACCESS_NS: core::ops::RangeInclusive<u64> = 100..=200_000;

/// In a wait the clock of seconds is looked at every so many times at most: a look costs four accesses, that of the device
/// one.
const LOOK_EVERY: u32 = 16;
/// And while the counter goes after so many cycles, which is some milliseconds; or after so many accesses, where it crawls.
const LOOK_AFTER: u64 = 10_000_000;
const LOOK_AFTER_ACCESSES: u64 = 3000;

/// What the counter's frequency is taken for, in kHz, until something tells it. A server's is 1.5 to 4 GHz.
const PRESUMED_KHZ: u32 = 2_000_000;

/// The clock of seconds corrects a counter that is slower than was told, down to this part of it. Below that one of them
/// lies, and nothing tells which.
const SLOWEST: u32 = 16;

/// A step of the seconds beyond this is somebody setting the clock, not time that passed: it counts one second.
const LONGEST_STEP: u32 = 5;

/// In what comes last nothing takes so long between two askings; a counter that says so has leapt.
const LEAP: Millis = 100;

/// What the counter's frequency can be, in kHz.
pub const PLAUSIBLE_KHZ: core::ops::RangeInclusive<u32> = 10_000..=20_000_000;

/// The time since the start, and the budget that it is measured against.
pub struct Timer {
    /// Register accesses, and the same with those without another clock counted [`BESIDE_A_CLOCK`] times.
    accesses: u64,
    weighed: u64,
    now: Millis,
    /// The budget, and when what is done now has to end.
    budget: Millis,
    end: Millis,
    /// So much of the end is not for what is done now.
    held_back: Millis,
    khz: Option<u32>,
    ticks: u64,
    cycles: u64,
    /// The seconds have confirmed the counter's frequency, and it has moved whenever it was asked since.
    fine: bool,
    /// What the clock of seconds showed last, at which cycle that was, and by how many seconds it has moved.
    second: Option<u32>,
    looked: u64,
    seconds: u32,
    /// From which cycle on it is looked at again, and accesses that may be made until then.
    next_look: u64,
    until_look: u64,
    /// It has moved as no clock does.
    leapt: bool,
    /// The cycle of the look before its last tick.
    before_tick: Option<u64>,
    /// It may be later than the clocks can tell: the budget's end may have come.
    perhaps_over: bool,
    last: Option<Last>,
    /// There is no time but what was granted.
    all_spent: bool,
}

/// Where what comes last began.
#[derive(Clone, Copy)]
struct Last {
    now: Millis,
    accesses: u64,
    cycles: u64,
    /// What an access is taken to cost, in nanoseconds.
    access_ns: u64,
    /// The seconds at the first of it; `None` where they have moved as no clock does.
    seconds: Option<u32>,
}

impl Timer {
    /// Starts counting, with the counter's frequency in kHz where it is known. `budget` is the time for everything.
    pub fn start<M: Clock>(machine: &mut M, khz: Option<u32>, budget: Millis) -> Self {
        let mut timer = Self {
            accesses: 0,
            weighed: 0,
            now: 0,
            budget,
            end: budget,
            held_back: 0,
            khz,
            ticks: machine.ticks(),
            cycles: 0,
            fine: false,
            second: None,
            looked: 0,
            seconds: 0,
            next_look: 0,
            until_look: 0,
            leapt: false,
            before_tick: None,
            perhaps_over: false,
            last: None,
            all_spent: false,
        };
        timer.now(machine);
        timer
    }

    /// Asks the clocks. Never goes backwards until [`Timer::grant`], and goes on even when they do not.
    #[inline(never)]
    pub fn now<M: Clock>(&mut self, machine: &mut M) -> Millis {
        self.ask(machine, true, 0)
    }

    /// The same, with or without a look at the clock of seconds, after so many accesses of the caller's own.
    fn ask<M: Clock>(&mut self, machine: &mut M, look: bool, own: u64) -> Millis {
        let ticks = machine.ticks();
        // A counter that goes backwards has been written to: what lies between is unknown, so it counts nothing.
        let mut passed = ticks.saturating_sub(self.ticks);
        self.ticks = ticks;
        if self.last.is_some() && self.in_ms(passed) > u64::from(LEAP) {
            passed = 0;
        }
        // Behind an access it has stopped or leapt where it has not moved.
        self.fine &= passed != 0 || own == 0;
        self.cycles = self.cycles.saturating_add(passed);
        self.until_look = self.until_look.saturating_sub(own);
        let look = look && (passed == 0 || self.cycles >= self.next_look || self.until_look == 0);
        let accesses = own + if look { self.look_at_seconds(machine) } else { 0 };
        // Where neither has any the asking is one, but tells nothing of what one costs.
        self.accesses += if self.last.is_some() { accesses.max(1) } else { accesses };
        let accesses = accesses.max(1);
        let seconds_go = self.seconds >= 2;
        self.weighed += accesses * if passed == 0 && !seconds_go { BESIDE_A_CLOCK } else { 1 };

        // The first tick may come at once: n ticks say only that n - 1 seconds are over, and perhaps n.
        let perhaps = u64::from(self.seconds) * 1000;
        let latest = if let Some(last) = self.last {
            let by_ticks = self.in_ms(self.cycles - last.cycles);
            let by_accesses = (self.accesses - last.accesses) * last.access_ns / 1_000_000;
            // The seconds end the budget, where nothing finer has been confirmed.
            let ticked = last.seconds.is_some_and(|first| self.seconds > first);
            self.perhaps_over = ticked && !self.fine && perhaps >= u64::from(self.budget);
            by_ticks.max(by_accesses).saturating_add(u64::from(last.now))
        } else {
            let by_seconds = u64::from(self.seconds.saturating_sub(1)) * 1000;
            let by_ticks = self.in_ms(self.cycles);
            // A deadline can wait for the next tick, the budget's end cannot.
            self.perhaps_over =
                (!self.fine || by_ticks < by_seconds) && perhaps >= u64::from(self.end()).max(1);
            by_ticks.max(by_seconds).max(self.weighed / (ACCESSES_PER_MS * BESIDE_A_CLOCK))
        };
        self.now = self.now.max(Millis::try_from(latest).unwrap_or(Millis::MAX));
        self.now
    }

    /// The milliseconds that so many cycles are. Once the seconds go, a frequency is told or none is taken.
    // Four divisions otherwise.
    #[inline(never)]
    fn in_ms(&self, cycles: u64) -> u64 {
        let khz = self.khz.or(if self.seconds >= 2 { None } else { Some(PRESUMED_KHZ) });
        khz.and_then(|khz| cycles.checked_div(u64::from(khz))).unwrap_or(0)
    }

    /// Looks whether the clock of seconds has moved; returns the register accesses that took.
    #[inline(never)]
    fn look_at_seconds<M: Clock>(&mut self, machine: &mut M) -> u64 {
        self.next_look = self.cycles.saturating_add(LOOK_AFTER);
        self.until_look = LOOK_AFTER_ACCESSES;
        let look = machine.second();
        let Some(second) = look.shows else { return look.accesses };
        let before = core::mem::replace(&mut self.looked, self.cycles);
        let Some(shown) = self.second.replace(second).filter(|shown| *shown != second) else {
            return look.accesses;
        };
        let step = (second + DAY).saturating_sub(shown) % DAY;
        self.leapt |= step > LONGEST_STEP;
        self.seconds = self.seconds.saturating_add(if step <= LONGEST_STEP { step } else { 1 });
        if step != 1 {
            if let Some(last) = &mut self.last {
                last.seconds = None;
            }
        } else if let Some(before_tick) = self.before_tick {
            // Not more than these cycles lie between two ticks, however late they were seen.
            let most = u32::try_from((self.cycles - before_tick) / 1000).unwrap_or(u32::MAX);
            let told = self.khz.unwrap_or(most);
            if PLAUSIBLE_KHZ.contains(&most) && most >= told / SLOWEST {
                self.khz = Some(told.min(most));
                self.fine = true;
            }
        }
        self.before_tick = Some(before);
        look.accesses
    }

    /// Counts accesses that were made without asking.
    pub fn count(&mut self, accesses: u64) {
        self.accesses += accesses;
        self.weighed += accesses;
        self.until_look = self.until_look.saturating_sub(accesses);
    }

    /// The moment `ms` from the last asking on, but never after the budget's end.
    #[must_use]
    pub fn within(&self, ms: Millis) -> Millis {
        self.now.saturating_add(ms).min(self.end())
    }

    /// What is left until the end of what is done now.
    pub fn left<M: Clock>(&mut self, machine: &mut M) -> Millis {
        let now = self.now(machine);
        if self.perhaps_over { 0 } else { self.end().saturating_sub(now) }
    }

    /// Is the budget spent?
    pub fn spent<M: Clock>(&mut self, machine: &mut M) -> bool {
        self.left(machine) == 0
    }

    /// Was the budget spent when the clocks were last asked?
    #[must_use]
    pub fn was_spent(&self) -> bool {
        self.now >= self.end() || self.perhaps_over
    }

    /// And with it the time of what comes last?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.last.is_some() && self.was_spent()
    }

    /// Keeps so much of the budget's end for what comes later, until the next call.
    pub fn hold_back(&mut self, ms: Millis) {
        self.held_back = ms;
    }

    #[inline(never)]
    fn end(&self) -> Millis {
        self.end.saturating_sub(self.held_back)
    }

    /// Looks until there is something, or `deadline` has come. Whatever waits in the image waits here: the clocks end it,
    /// or the count of the accesses that asking them takes. They are not asked where the first look finds something.
    pub fn wait<M: Clock, T>(
        &mut self,
        machine: &mut M,
        deadline: Millis,
        mut look: impl FnMut(&mut M) -> Option<T>,
    ) -> Option<T> {
        let mut turns = 0u32;
        loop {
            let found = look(machine);
            if found.is_some() {
                return found;
            }
            if self.passed(machine, deadline, turns.is_multiple_of(LOOK_EVERY), 1) {
                return None;
            }
            turns = turns.wrapping_add(1);
        }
    }

    /// Looks once, and then for `ms` from there on, but not longer than the budget has.
    pub fn wait_for<M: Clock, T>(
        &mut self,
        machine: &mut M,
        ms: Millis,
        mut look: impl FnMut(&mut M) -> Option<T>,
    ) -> Option<T> {
        let found = look(machine);
        if found.is_some() {
            return found;
        }
        self.now(machine);
        let deadline = self.within(ms);
        self.wait(machine, deadline, look)
    }

    /// Lets `ms` pass, but not more than the budget has.
    pub fn pause<M: Clock>(&mut self, machine: &mut M, ms: Millis) {
        self.now(machine);
        let deadline = self.within(ms);
        while !self.passed(machine, deadline, true, 0) {
            machine.relax();
        }
    }

    /// Asks, and tells whether this moment has come, or the budget's end.
    fn passed<M: Clock>(&mut self, machine: &mut M, moment: Millis, look: bool, own: u64) -> bool {
        self.ask(machine, look, own) >= moment || self.perhaps_over
    }

    /// Gives what comes last this much time of its own, where the budget has less left.
    ///
    /// A leap of before does not count any more, and one of the counter from now on does not either. An access counts
    /// what it has cost by the seconds so far, where the budget is spent and they went; the seconds themselves end it at
    /// their next tick behind the budget's end. The frequency that they have confirmed overrules both.
    pub fn grant(&mut self, ms: Millis) {
        self.held_back = 0;
        // A leap has gone far beyond the end.
        self.now = self.now.min(self.end);
        let end = self.now.saturating_add(ms);
        self.all_spent |= self.perhaps_over || self.end < end;
        if self.all_spent {
            self.end = end;
        }
        let cost = match u64::from(self.seconds) {
            _ if !self.all_spent || self.fine => 0,
            0 => 1_000_000 / ACCESSES_PER_MS,
            seconds => (seconds * 1_000_000_000).checked_div(self.accesses).unwrap_or(0),
        };
        self.last = Some(Last {
            now: self.now,
            accesses: self.accesses,
            cycles: self.cycles,
            access_ns: cost.clamp(*ACCESS_NS.start(), *ACCESS_NS.end()),
            seconds: self.last.map_or((!self.leapt).then_some(self.seconds), |last| last.seconds),
        });
        self.perhaps_over = false;
    }
}
