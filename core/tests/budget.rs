//! Time from clocks that work, stop, jump or lie.

use lastwords_core::budget::{ACCESSES_PER_MS, BESIDE_A_CLOCK, Millis, Timer};
use lastwords_core::device::rtc;
use lastwords_core::hw::{Clock, DAY, Register, Registers, Second};
use lastwords_sim::Sim;
use proptest::prelude::*;

/// A look at a device that never has anything.
fn nothing(sim: &mut Sim) -> Option<()> {
    sim.get(Register::Port(0x80));
    None
}

/// Asks until `ms` have passed on the timer; the real time that took, in ms.
fn real_time(sim: &mut Sim, khz: Option<u32>, ms: Millis) -> u64 {
    let mut timer = Timer::start(sim, khz, Millis::MAX);
    let began = sim.time_us;
    let deadline = timer.within(ms);
    timer.wait(sim, deadline, nothing);
    (sim.time_us - began) / 1000
}

#[test]
fn with_a_known_tsc_a_deadline_is_exact() {
    let mut sim = Sim::default();
    let khz = sim.tsc_khz;
    let took = real_time(&mut sim, Some(khz), 5000);
    assert!((4999..=5001).contains(&took), "{took}");
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
    // Whole seconds alone would make it 3 s or more. A tick is seen some milliseconds late.
    assert!((2499..=2510).contains(&took), "{took}");
}

#[test]
fn the_rtc_wraps_at_minute_hour_and_day() {
    for second in [59 - 2, 3599 - 2, DAY - 3] {
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
    let took = real_time(&mut sim, Some(khz), 5000);
    assert!((4999..=5001).contains(&took), "{took}");
}

#[test]
fn a_tsc_ten_times_too_slow_leaves_the_rtc() {
    let mut sim = Sim::default();
    let khz = sim.tsc_khz * 10;
    let took = real_time(&mut sim, Some(khz), 5000);
    assert!((5000..=6010).contains(&took), "{took}");
}

/// A timer of this frequency waits for half a second; looks at the clock of seconds in that time.
fn looks(sim: Sim, khz: Option<u32>) -> u64 {
    struct Counting(Sim, u64);
    impl Registers for Counting {
        fn get(&mut self, register: Register) -> u8 {
            self.0.get(register)
        }
        fn put(&mut self, register: Register, value: u8) {
            self.0.put(register, value);
        }
    }
    impl Clock for Counting {
        fn ticks(&mut self) -> u64 {
            self.0.ticks()
        }
        fn second(&mut self) -> Second {
            self.1 += 1;
            self.0.second()
        }
        fn relax(&mut self) {
            self.0.relax();
        }
    }
    let mut machine = Counting(sim, 0);
    let mut timer = Timer::start(&mut machine, khz, Millis::MAX);
    while machine.0.time_us < 500_000 {
        let deadline = timer.within(10);
        timer.wait(&mut machine, deadline, |machine| {
            machine.get(Register::Port(0x80));
            None::<()>
        });
        timer.pause(&mut machine, 10);
    }
    machine.1
}

#[test]
fn while_the_counter_goes_the_rtc_is_looked_at_a_few_hundred_times_a_second() {
    for (tsc_khz, khz) in [(2_400_000, Some(2_400_000)), (2_400_000, None), (3_600_000, Some(2_400_000))] {
        let looks = looks(Sim { tsc_khz, ..Sim::default() }, khz);
        assert!((50..=300).contains(&looks), "{tsc_khz} {khz:?}: {looks}");
    }
}

#[test]
fn where_the_counter_stands_or_crawls_the_rtc_is_looked_at_as_often_as_that_shows() {
    for (tsc_khz, least) in [(0, 10_000), (2_400, 50), (24_000, 50)] {
        let looks = looks(Sim { tsc_khz, ..Sim::default() }, Some(2_400_000));
        assert!(looks >= least, "{tsc_khz}: {looks}");
    }
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
        // The simulated bus does an access a microsecond, and here the timer alone asks: of five it counts, four are.
        let took = real_time(&mut sim, None, 100);
        assert!((60..=100).contains(&took), "{took}");
    }
}

#[test]
fn a_tsc_that_nobody_knows_is_presumed_until_the_rtc_has_ticked() {
    let mut sim = Sim::default();
    sim.rtc.absent = true;
    let took = real_time(&mut sim, None, 1200);
    assert!((999..=1001).contains(&took), "{took}");
}

#[test]
fn beside_a_clock_that_goes_accesses_count_for_little() {
    let mut sim = Sim::default();
    sim.rtc.stopped = true;
    // A TSC that moves, but says next to nothing.
    let crawling = Some(20_000_000);
    sim.tsc_khz = 20_000;
    let took = real_time(&mut sim, crawling, 100);
    assert!((790..=1010).contains(&took), "{took}");
}

/// A counter of 1 GHz and a clock of seconds that stand still but for what the test adds.
#[derive(Default)]
struct Clocks {
    ms: u64,
    ns: u64,
    second: u32,
}

impl Clock for Clocks {
    fn ticks(&mut self) -> u64 {
        self.ms * 1_000_000 + self.ns
    }

    fn second(&mut self) -> Second {
        Second { shows: Some(self.second), accesses: 1 }
    }

    fn relax(&mut self) {}
}

const GHZ: Option<u32> = Some(1_000_000);

impl Clocks {
    /// The seconds tick, and so many milliseconds pass by the counter before.
    fn tick(&mut self, timer: &mut Timer, ms: u64) {
        self.ms += ms;
        timer.now(self);
        self.second += 1;
        timer.now(self);
    }
}

#[test]
fn seconds_alone_end_the_budget_at_the_tick_that_may_be_its_end() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 2_000);
    clocks.tick(&mut timer, 0);
    assert_eq!(timer.left(&mut clocks), 2_000);
    clocks.tick(&mut timer, 0);
    assert!(timer.spent(&mut clocks));
}

#[test]
fn a_counter_that_has_leapt_and_stands_is_not_believed_at_the_budgets_end() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 2_000);
    clocks.tick(&mut timer, 1_500);
    assert_eq!(timer.left(&mut clocks), 500);
    clocks.tick(&mut timer, 0);
    assert!(timer.spent(&mut clocks));
}

#[test]
fn a_counter_that_two_ticks_have_confirmed_ends_the_budget_to_the_millisecond() {
    for first_tick in [0, 10, 990] {
        let mut clocks = Clocks::default();
        let mut timer = Timer::start(&mut clocks, GHZ, 5_000);
        clocks.tick(&mut timer, first_tick);
        for _ in 0..4 {
            clocks.ms += 500;
            timer.now(&mut clocks);
            clocks.ms += 499;
            timer.now(&mut clocks);
            clocks.ms += 1;
            clocks.second += 1;
            timer.now(&mut clocks);
        }
        clocks.ns += 1;
        assert_eq!(u64::from(timer.left(&mut clocks)), 1_000 - first_tick, "{first_tick}");
    }
}

#[test]
fn a_confirmed_counter_that_had_stood_before_does_not_lengthen_the_budget() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 5_000);
    for _ in 0..3 {
        clocks.tick(&mut timer, 0);
    }
    for _ in 0..2 {
        clocks.ms += 995;
        timer.now(&mut clocks);
        clocks.ms += 5;
        clocks.second += 1;
        timer.now(&mut clocks);
    }
    clocks.ms += 5;
    assert!(timer.spent(&mut clocks));
}

#[test]
fn the_next_tick_behind_the_budgets_end_ends_what_comes_last() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 3_000);
    (0..3).for_each(|_| clocks.tick(&mut timer, 0));
    assert!(timer.spent(&mut clocks));
    timer.grant(500);
    assert!(!timer.spent(&mut clocks));
    clocks.tick(&mut timer, 0);
    assert!(timer.spent(&mut clocks));
}

#[test]
fn a_tick_within_the_budget_does_not_end_what_comes_last() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 3_000);
    clocks.tick(&mut timer, 0);
    timer.grant(500);
    clocks.tick(&mut timer, 0);
    assert!(!timer.spent(&mut clocks));
    clocks.tick(&mut timer, 0);
    assert!(timer.spent(&mut clocks));
}

#[test]
fn without_any_clock_an_access_counts_a_microsecond_in_what_comes_last() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 1_000);
    timer.count(1_000 * ACCESSES_PER_MS * BESIDE_A_CLOCK);
    assert!(timer.spent(&mut clocks));
    timer.grant(500);
    timer.count(400_000);
    assert_eq!(timer.left(&mut clocks), 100);
    timer.count(100_000);
    assert!(timer.spent(&mut clocks));
}

#[test]
fn in_what_comes_last_a_tenth_of_a_second_between_two_askings_counts_and_a_leap_does_not() {
    for (step, counts) in [(1, 1), (100, 100), (101, 0), (3_600_000, 0)] {
        let mut clocks = Clocks::default();
        let mut timer = Timer::start(&mut clocks, GHZ, 1_000);
        timer.grant(500);
        clocks.ms += step;
        assert_eq!(timer.now(&mut clocks), counts, "{step} ms");
    }
}

#[test]
fn with_a_clock_that_went_an_access_counts_in_what_comes_last_what_it_has_cost_so_far() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 3_000);
    for _ in 0..3 {
        // A tenth of a millisecond each.
        timer.count(10_000);
        clocks.tick(&mut timer, 0);
    }
    assert!(timer.spent(&mut clocks));
    timer.grant(500);
    timer.count(4_900);
    assert!(!timer.spent(&mut clocks));
    timer.count(200);
    assert!(timer.spent(&mut clocks));
}

#[test]
fn what_comes_last_has_the_rest_of_the_budget_where_that_is_more_and_what_was_granted_where_it_is_less() {
    for (budget, left) in [(10_000, 10_000), (501, 501), (499, 500), (100, 500)] {
        let mut clocks = Clocks::default();
        let mut timer = Timer::start(&mut clocks, GHZ, budget);
        timer.grant(500);
        assert_eq!(timer.left(&mut clocks), left, "{budget}");
    }
}

#[test]
fn an_access_counts_next_to_nothing_in_what_comes_last_while_there_is_budget() {
    for budget in [10_000, 500] {
        let mut clocks = Clocks::default();
        let mut timer = Timer::start(&mut clocks, GHZ, budget);
        timer.grant(500);
        timer.count(1_000_000);
        assert_eq!(timer.left(&mut clocks), budget - 100);
    }
}

#[test]
fn a_counter_below_a_sixteenth_of_what_was_told_is_not_believed() {
    let mut clocks = Clocks::default();
    let mut timer = Timer::start(&mut clocks, GHZ, 3_000);
    for ms in [0, 50, 50] {
        clocks.tick(&mut timer, ms);
    }
    clocks.ms += 1;
    assert!(timer.spent(&mut clocks));
}

proptest! {
    #[test]
    fn whatever_the_clocks_say_time_goes_on_and_never_back(values: [u8; 64], tscs: [u64; 16]) {
        struct Liar { values: [u8; 64], tscs: [u64; 16], turn: usize, cmos: rtc::CmosRtc }
        impl Registers for Liar {
            fn get(&mut self, _: Register) -> u8 { self.turn += 1; self.values[self.turn % 64] }
            fn put(&mut self, _: Register, _: u8) {}
        }
        impl Clock for Liar {
            fn ticks(&mut self) -> u64 { self.turn += 1; self.tscs[self.turn % 16] }
            fn second(&mut self) -> Second {
                let mut cmos = self.cmos;
                let second = cmos.second(self);
                self.cmos = cmos;
                second
            }
            fn relax(&mut self) {}
        }
        let mut liar = Liar { values, tscs, turn: 0, cmos: rtc::CmosRtc::default() };
        let mut timer = Timer::start(&mut liar, None, 15_000);
        let mut last = 0;
        for _ in 0..3 * ACCESSES_PER_MS * BESIDE_A_CLOCK {
            let now = timer.now(&mut liar);
            prop_assert!(now >= last);
            last = now;
        }
        prop_assert!(last >= 3);
    }
}
