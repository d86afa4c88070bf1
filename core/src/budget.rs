//! Time: how much has passed, and deadlines, from clocks that may lie.
//!
//! Three clocks count, and the one that is ahead is believed, so that one which stands still or crawls cannot make
//! a wait longer: the CMOS RTC (whole seconds, correct where it works), the time stamp counter (fine, if its
//! frequency is known or two ticks of the RTC have told it), and the number of times somebody has asked. The last
//! one ends every loop even when both clocks are dead, and is slower than any real machine, so that it never
//! decides on a healthy one. A clock that runs ahead makes us say less, never hand over later.

use crate::hw::{Clock, Ports};
use crate::rtc::{self, Reading};

/// Milliseconds since [`Timer::start`].
pub type Millis = u32;

/// Asking this often takes at least a millisecond: an asking is five port accesses, and no bus does ten a
/// microsecond.
pub const TURNS_PER_MS: u64 = 2000;

/// A step of the RTC beyond this is somebody setting the clock, not time that passed: it counts one second.
const LONGEST_STEP: u32 = 5;

/// What a TSC's frequency can be, in kHz.
pub const PLAUSIBLE_KHZ: core::ops::RangeInclusive<u32> = 10_000..=20_000_000;

/// The time since the start, and the budget that it is measured against.
pub struct Timer {
    turns: u64,
    now: Millis,
    end: Millis,
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
            now: 0,
            end: budget,
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
        self.cycles = self.cycles.saturating_add(tsc.saturating_sub(self.tsc));
        self.tsc = tsc;
        self.look_at_rtc(machine);

        let by_turns = self.turns / TURNS_PER_MS;
        // The first tick may come at once: n ticks say only that n - 1 seconds are over.
        let by_rtc = u64::from(self.ticks.saturating_sub(1)) * 1000;
        let by_tsc = self.khz.and_then(|khz| self.cycles.checked_div(u64::from(khz))).unwrap_or(0);
        let latest = Millis::try_from(by_turns.max(by_rtc).max(by_tsc)).unwrap_or(Millis::MAX);
        self.now = self.now.max(latest);
        self.now
    }

    fn look_at_rtc<P: Ports>(&mut self, ports: &mut P) {
        let Ok(raw) = rtc::raw_seconds(ports) else { return };
        if self.rtc.is_some_and(|(last_raw, _)| last_raw == raw) {
            return;
        }
        let Reading::Time(second) = rtc::read(ports) else { return };
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
    }

    /// The moment `ms` from the last asking on, but never after the budget's end.
    #[must_use]
    pub fn within(&self, ms: Millis) -> Millis {
        self.now.saturating_add(ms).min(self.end)
    }

    /// Has this moment come?
    pub fn passed<M: Ports + Clock>(&mut self, machine: &mut M, moment: Millis) -> bool {
        self.now(machine) >= moment
    }

    /// Is the budget spent?
    pub fn spent<M: Ports + Clock>(&mut self, machine: &mut M) -> bool {
        let end = self.end;
        self.passed(machine, end)
    }

    /// Gives what comes last a time of its own, whatever the budget says.
    pub fn grant(&mut self, ms: Millis) {
        self.end = self.now.saturating_add(ms);
    }
}
