//! Time: how much has passed, and deadlines, from clocks that may lie.
//!
//! Three clocks count, and the one that is ahead is believed, so that one which stands still or crawls cannot make
//! a wait longer: the CMOS RTC (whole seconds, correct where it works), the time stamp counter (fine, if its
//! frequency is known or two ticks of the RTC have told it; until then 2 GHz are presumed), and the number of port
//! accesses that asking costs. The last one ends every loop even when both clocks are dead. It is slower than any real
//! machine as long as there is another clock, so that it never decides on a healthy one, and true to an LPC bus where
//! there is none. A clock that runs ahead makes us say less, never hand over later.

use crate::hw::{Clock, Ports};
use crate::rtc::{self, Reading};

/// Milliseconds since [`Timer::start`].
pub type Millis = u32;

/// Port accesses in a millisecond where no other clock goes: an LPC bus takes about a microsecond for each.
pub const ACCESSES_PER_MS: u64 = 1000;
/// Where another clock goes each access counts so much less: no bus does ten a microsecond.
pub const BESIDE_A_CLOCK: u64 = 10;
/// Most port accesses of one asking: the RTC's registers once to see whether they moved, once to read them, and the
/// caller's own look at its device.
pub const ASKING: u64 = 4 + 14 + 1;

/// What the TSC's frequency is taken for, in kHz, until somebody knows better. A server's is 1.5 to 4 GHz.
const PRESUMED_KHZ: u32 = 2_000_000;

/// A step of the RTC beyond this is somebody setting the clock, not time that passed: it counts one second.
const LONGEST_STEP: u32 = 5;

/// Askings that what comes last gets, whatever the clocks say: some tenths of a second on a real machine, which is enough
/// for a BMC that works. A clock that leaps would leave nothing.
const LEAST: u64 = 40_000;

/// What a TSC's frequency can be, in kHz.
pub const PLAUSIBLE_KHZ: core::ops::RangeInclusive<u32> = 10_000..=20_000_000;

/// The time since the start, and the budget that it is measured against.
pub struct Timer {
    turns: u64,
    /// Port accesses, those without another clock counted [`BESIDE_A_CLOCK`] times.
    accesses: u64,
    now: Millis,
    end: Millis,
    /// So much of the end is not for what is done now.
    held_back: Millis,
    least: u64,
    /// What it may be by the RTC, where nothing finer tells.
    perhaps: Millis,
    khz: Option<u32>,
    tsc: u64,
    cycles: u64,
    rtc: Option<(u8, u32)>,
    ticks: u32,
    last_tick: Option<u64>,
}

impl Timer {
    /// Starts counting, with the TSC's frequency where somebody knows it. `budget` is the time for everything.
    pub fn start<M: Ports + Clock>(machine: &mut M, khz: Option<u32>, budget: Millis) -> Self {
        let mut timer = Self {
            turns: 0,
            accesses: 0,
            now: 0,
            end: budget,
            held_back: 0,
            least: 0,
            perhaps: 0,
            khz,
            tsc: machine.tsc(),
            cycles: 0,
            rtc: None,
            ticks: 0,
            last_tick: None,
        };
        timer.now(machine);
        timer
    }

    /// Asks the clocks. Never goes backwards, and goes on even when they do not.
    pub fn now<M: Ports + Clock>(&mut self, machine: &mut M) -> Millis {
        self.turns += 1;
        let tsc = machine.tsc();
        // A counter that goes backwards has been written to: what lies between is unknown, so it counts nothing.
        let passed = tsc.saturating_sub(self.tsc);
        self.cycles = self.cycles.saturating_add(passed);
        self.tsc = tsc;
        let accesses = 1 + self.look_at_rtc(machine);
        let rtc_goes = self.ticks >= 2;
        let weight = if passed == 0 && !rtc_goes { BESIDE_A_CLOCK } else { 1 };
        self.accesses += accesses * weight;

        let by_accesses = self.accesses / (ACCESSES_PER_MS * BESIDE_A_CLOCK);
        // The first tick may come at once: n ticks say only that n - 1 seconds are over.
        let by_rtc = u64::from(self.ticks.saturating_sub(1)) * 1000;
        let khz = self.khz.or(if rtc_goes { None } else { Some(PRESUMED_KHZ) });
        let by_tsc = khz.and_then(|khz| self.cycles.checked_div(u64::from(khz))).unwrap_or(0);
        let latest = Millis::try_from(by_accesses.max(by_rtc).max(by_tsc)).unwrap_or(Millis::MAX);
        self.now = self.now.max(latest);
        // The last tick may be nearly a second old; a deadline can wait for the next one, the budget's end cannot.
        if by_tsc < by_rtc {
            self.perhaps = self.ticks.saturating_mul(1000);
        }
        self.now
    }

    /// Looks whether the RTC has moved; returns the port accesses that took.
    fn look_at_rtc<P: Ports>(&mut self, ports: &mut P) -> u64 {
        let Ok(raw) = rtc::raw_seconds(ports) else { return 2 };
        if self.rtc.is_some_and(|(last_raw, _)| last_raw == raw) {
            return 4;
        }
        let Reading::Time(second) = rtc::read(ports) else { return ASKING - 1 };
        if let Some((_, last)) = self.rtc {
            let step = (second + rtc::DAY).saturating_sub(last) % rtc::DAY;
            self.ticks = self.ticks.saturating_add(if step <= LONGEST_STEP { step } else { 1 });
            if let (None, Some(last_tick), 1) = (self.khz, self.last_tick, step) {
                let khz = u32::try_from(self.cycles.saturating_sub(last_tick) / 1000).ok();
                self.khz = khz.filter(|khz| PLAUSIBLE_KHZ.contains(khz));
            }
            self.last_tick = Some(self.cycles);
        }
        self.rtc = Some((raw, second));
        ASKING - 1
    }

    /// The moment `ms` from the last asking on, but never after the budget's end.
    #[must_use]
    pub fn within(&self, ms: Millis) -> Millis {
        self.now.saturating_add(ms).min(self.end())
    }

    /// Has this moment come?
    pub fn passed<M: Ports + Clock>(&mut self, machine: &mut M, moment: Millis) -> bool {
        let now = self.now(machine);
        (now >= moment || self.perhaps >= self.end()) && self.turns >= self.least
    }

    /// Is the budget spent?
    pub fn spent<M: Ports + Clock>(&mut self, machine: &mut M) -> bool {
        let end = self.end();
        self.passed(machine, end)
    }

    /// Keeps so much of the budget's end for what comes later, until it is said otherwise.
    pub fn hold_back(&mut self, ms: Millis) {
        self.held_back = ms;
    }

    fn end(&self) -> Millis {
        self.end.saturating_sub(self.held_back)
    }

    /// Gives what comes last this much time of its own, whatever the budget and the clocks say.
    pub fn grant(&mut self, ms: Millis) {
        self.end = self.end.max(self.now.saturating_add(ms));
        self.least = self.turns + LEAST;
    }
}
