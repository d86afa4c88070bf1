//! Time: how much has passed, and deadlines, from clocks that may lie.
//!
//! Three clocks count, and the one that is ahead is taken, so that one which stops or crawls cannot make a wait
//! longer: the clock of seconds (correct where it works), the CPU's counter (fine, if its frequency is known or two
//! seconds have told it; until then 2 GHz are presumed), and the number of register accesses that asking costs. The
//! last one ends every loop even when both clocks are dead. It is slower than any real machine as long as there is
//! another clock, so that it never decides on a healthy one, and true to an LPC bus where there is none. A clock that
//! runs ahead makes us report less, never hand over later.

use crate::hw::{Clock, DAY};

/// Milliseconds since [`Timer::start`].
pub type Millis = u32;

/// Register accesses in a millisecond where no other clock goes: an LPC bus takes about a microsecond for each.
pub const ACCESSES_PER_MS: u64 = 1000;
/// Where another clock goes each access counts so much less: no bus does ten a microsecond.
pub const BESIDE_A_CLOCK: u64 = 10;
/// Most register accesses of one asking: the CMOS clock's once to see whether it moved, once to read it
/// ([`crate::device::rtc`]), and the caller's own look at its device.
pub const ASKING: u64 = 4 + 14 + 1;

/// What the counter's frequency is taken for, in kHz, until something tells it. A server's is 1.5 to 4 GHz.
const PRESUMED_KHZ: u32 = 2_000_000;

/// A step of the seconds beyond this is somebody setting the clock, not time that passed: it counts one second.
const LONGEST_STEP: u32 = 5;

/// Askings that what comes last gets, whatever the clocks say: some tenths of a second on a real machine, which is enough
/// for a BMC that works. A clock that leaps would leave nothing.
const LEAST: u64 = 40_000;

/// What the counter's frequency can be, in kHz.
pub const PLAUSIBLE_KHZ: core::ops::RangeInclusive<u32> = 10_000..=20_000_000;

/// The time since the start, and the budget that it is measured against.
pub struct Timer {
    turns: u64,
    /// Register accesses, those without another clock counted [`BESIDE_A_CLOCK`] times.
    accesses: u64,
    now: Millis,
    end: Millis,
    /// So much of the end is not for what is done now.
    held_back: Millis,
    least: u64,
    /// What it may be by the seconds, where nothing finer tells.
    perhaps: Millis,
    khz: Option<u32>,
    ticks: u64,
    cycles: u64,
    /// What the clock of seconds showed last, and by how many it has moved.
    second: Option<u32>,
    seconds: u32,
    last_tick: Option<u64>,
}

impl Timer {
    /// Starts counting, with the counter's frequency in kHz where it is known. `budget` is the time for everything.
    pub fn start<M: Clock>(machine: &mut M, khz: Option<u32>, budget: Millis) -> Self {
        let mut timer = Self {
            turns: 0,
            accesses: 0,
            now: 0,
            end: budget,
            held_back: 0,
            least: 0,
            perhaps: 0,
            khz,
            ticks: machine.ticks(),
            cycles: 0,
            second: None,
            seconds: 0,
            last_tick: None,
        };
        timer.now(machine);
        timer
    }

    /// Asks the clocks. Never goes backwards, and goes on even when they do not.
    pub fn now<M: Clock>(&mut self, machine: &mut M) -> Millis {
        self.turns += 1;
        let ticks = machine.ticks();
        // A counter that goes backwards has been written to: what lies between is unknown, so it counts nothing.
        let passed = ticks.saturating_sub(self.ticks);
        self.cycles = self.cycles.saturating_add(passed);
        self.ticks = ticks;
        let accesses = 1 + self.look_at_seconds(machine);
        let seconds_go = self.seconds >= 2;
        let weight = if passed == 0 && !seconds_go { BESIDE_A_CLOCK } else { 1 };
        self.accesses += accesses * weight;

        let by_accesses = self.accesses / (ACCESSES_PER_MS * BESIDE_A_CLOCK);
        // The first tick may come at once: n ticks say only that n - 1 seconds are over.
        let by_seconds = u64::from(self.seconds.saturating_sub(1)) * 1000;
        let khz = self.khz.or(if seconds_go { None } else { Some(PRESUMED_KHZ) });
        let by_ticks = khz.and_then(|khz| self.cycles.checked_div(u64::from(khz))).unwrap_or(0);
        let latest = Millis::try_from(by_accesses.max(by_seconds).max(by_ticks)).unwrap_or(Millis::MAX);
        self.now = self.now.max(latest);
        // The last tick may be nearly a second old; a deadline can wait for the next one, the budget's end cannot.
        if by_ticks < by_seconds {
            self.perhaps = self.seconds.saturating_mul(1000);
        }
        self.now
    }

    /// Looks whether the clock of seconds has moved; returns the register accesses that took.
    fn look_at_seconds<M: Clock>(&mut self, machine: &mut M) -> u64 {
        let look = machine.second();
        let Some(second) = look.shows.filter(|second| Some(*second) != self.second) else {
            return look.accesses;
        };
        if let Some(last) = self.second {
            let step = (second + DAY).saturating_sub(last) % DAY;
            self.seconds = self.seconds.saturating_add(if step <= LONGEST_STEP { step } else { 1 });
            if let (None, Some(last_tick), 1) = (self.khz, self.last_tick, step) {
                let khz = u32::try_from(self.cycles.saturating_sub(last_tick) / 1000).ok();
                self.khz = khz.filter(|khz| PLAUSIBLE_KHZ.contains(khz));
            }
            self.last_tick = Some(self.cycles);
        }
        self.second = Some(second);
        look.accesses
    }

    /// The moment `ms` from the last asking on, but never after the budget's end.
    #[must_use]
    pub fn within(&self, ms: Millis) -> Millis {
        self.now.saturating_add(ms).min(self.end())
    }

    /// Has this moment come?
    pub fn passed<M: Clock>(&mut self, machine: &mut M, moment: Millis) -> bool {
        let now = self.now(machine);
        (now >= moment || self.perhaps >= self.end()) && self.turns >= self.least
    }

    /// Is the budget spent?
    pub fn spent<M: Clock>(&mut self, machine: &mut M) -> bool {
        let end = self.end();
        self.passed(machine, end)
    }

    /// Keeps so much of the budget's end for what comes later, until the next call.
    pub fn hold_back(&mut self, ms: Millis) {
        self.held_back = ms;
    }

    fn end(&self) -> Millis {
        self.end.saturating_sub(self.held_back)
    }

    /// Lets `ms` pass, but not more than the budget has.
    pub fn pause<M: Clock>(&mut self, machine: &mut M, ms: Millis) {
        self.now(machine);
        let until = self.within(ms);
        while !self.passed(machine, until) {
            machine.relax();
        }
    }

    /// Gives what comes last this much time of its own, whatever the budget and the clocks say.
    pub fn grant(&mut self, ms: Millis) {
        self.end = self.end.max(self.now.saturating_add(ms));
        self.least = self.turns + LEAST;
    }
}
