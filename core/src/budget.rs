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

/// What a TSC can be, in kHz.
const PLAUSIBLE_KHZ: core::ops::RangeInclusive<u64> = 10_000..=20_000_000;

/// The time since the start, and the budget that it is measured against.
pub struct Timer {
    turns: u64,
    now: Millis,
    end: Millis,
    khz: Option<u64>,
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
            khz: khz.map(u64::from),
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
        let by_tsc = self.khz.and_then(|khz| self.cycles.checked_div(khz)).unwrap_or(0);
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
                let khz = (self.cycles - last_tick) / 1000;
                self.khz = PLAUSIBLE_KHZ.contains(&khz).then_some(khz);
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

#[cfg(test)]
mod tests {
    use super::*;
    use lastwords_sim::Sim;
    use proptest::prelude::*;

    /// Asks until `ms` have passed on the timer; the real time that took, in ms.
    fn real_time(sim: &mut Sim, khz: Option<u32>, ms: Millis) -> u64 {
        let mut timer = Timer::start(sim, khz, Millis::MAX);
        let began = sim.time_us;
        let deadline = timer.within(ms);
        while !timer.passed(sim, deadline) {}
        (sim.time_us - began) / 1000
    }

    #[test]
    fn with_a_known_tsc_a_deadline_is_exact() {
        let mut sim = Sim::default();
        let khz = sim.tsc_khz;
        assert_eq!(real_time(&mut sim, Some(khz), 5000), 5000);
    }

    #[test]
    fn with_the_rtc_alone_it_is_at_most_a_second_late_and_never_early() {
        for start in [0, 300_000, 999_000] {
            let mut sim = Sim::default();
            sim.time_us = start;
            sim.tsc_khz = 0;
            let took = real_time(&mut sim, None, 5000);
            assert!((5000..=6010).contains(&took), "{took}");
        }
    }

    #[test]
    fn two_ticks_of_the_rtc_tell_the_tscs_frequency() {
        let mut sim = Sim::default();
        let took = real_time(&mut sim, None, 2500);
        // Whole seconds alone would make it 3 s or more.
        assert!((2500..=2600).contains(&took), "{took}");
    }

    #[test]
    fn the_rtc_wraps_at_minute_hour_and_day() {
        for second in [59 - 2, 3599 - 2, rtc::DAY - 3] {
            let mut sim = Sim::default();
            sim.tsc_khz = 0;
            sim.rtc.set(second);
            let took = real_time(&mut sim, None, 5000);
            assert!((5000..=6010).contains(&took), "{took}");
        }
    }

    #[test]
    fn a_stopped_rtc_leaves_the_tsc() {
        let mut sim = Sim::default();
        sim.rtc.stopped = true;
        let khz = sim.tsc_khz;
        assert_eq!(real_time(&mut sim, Some(khz), 5000), 5000);
    }

    #[test]
    fn a_tsc_ten_times_too_slow_leaves_the_rtc() {
        let mut sim = Sim::default();
        let khz = sim.tsc_khz * 10;
        let took = real_time(&mut sim, Some(khz), 5000);
        assert!((5000..=6010).contains(&took), "{took}");
    }

    #[test]
    fn an_rtc_that_is_set_counts_one_second() {
        let mut sim = Sim::default();
        sim.tsc_khz = 0;
        let mut timer = Timer::start(&mut sim, None, Millis::MAX);
        sim.rtc.set(40_000);
        timer.now(&mut sim);
        sim.rtc.set(3);
        assert_eq!(timer.now(&mut sim), 1000);
    }

    #[test]
    fn with_both_clocks_dead_every_deadline_still_comes() {
        for dead in [
            |sim: &mut Sim| sim.rtc.stopped = true,
            |sim: &mut Sim| sim.rtc.absent = true,
            |sim: &mut Sim| {
                sim.rtc.updating = true;
            },
        ] {
            let mut sim = Sim::default();
            sim.tsc_khz = 0;
            dead(&mut sim);
            let mut timer = Timer::start(&mut sim, None, Millis::MAX);
            let deadline = timer.within(100);
            let mut turns = 0;
            while !timer.passed(&mut sim, deadline) {
                turns += 1;
            }
            assert_eq!(turns, 100 * TURNS_PER_MS - 2);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_clocks_say_time_goes_on_and_never_back(values: [u8; 64], tscs: [u64; 16]) {
            struct Liar { values: [u8; 64], tscs: [u64; 16], turn: usize }
            impl Ports for Liar {
                fn inb(&mut self, _: u16) -> u8 { self.turn += 1; self.values[self.turn % 64] }
                fn outb(&mut self, _: u16, _: u8) {}
            }
            impl Clock for Liar {
                fn tsc(&mut self) -> u64 { self.turn += 1; self.tscs[self.turn % 16] }
            }
            let mut liar = Liar { values, tscs, turn: 0 };
            let mut timer = Timer::start(&mut liar, None, 15_000);
            let mut last = 0;
            for _ in 0..3 * TURNS_PER_MS {
                let now = timer.now(&mut liar);
                prop_assert!(now >= last);
                last = now;
            }
            prop_assert!(last >= 3);
        }
    }
}
