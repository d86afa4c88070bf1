//! The CMOS clock against a simulated one in every mode.

use lastwords_core::device::rtc::{Reading, read};
use lastwords_core::hw::Clock;
use lastwords_sim::{RtcMode, Sim};

#[test]
fn every_mode_shows_the_same_second() {
    for mode in [
        RtcMode { binary: false, hours_24: true },
        RtcMode { binary: true, hours_24: true },
        RtcMode { binary: false, hours_24: false },
        RtcMode { binary: true, hours_24: false },
    ] {
        // Midnight, noon and the seconds around them are where 12-hour clocks go wrong.
        for second in [0, 1, 59, 3599, 3600, 43_199, 43_200, 46_800, 86_399] {
            let mut sim = Sim::default();
            sim.rtc.mode = mode;
            sim.rtc.set(second);
            assert_eq!(read(&mut sim), Reading::Time(second), "{mode:?}");
        }
    }
}

#[test]
fn no_read_through_an_update() {
    let mut sim = Sim::default();
    sim.rtc.updating = true;
    assert_eq!(read(&mut sim), Reading::Updating);
}

#[test]
fn nobody_there() {
    let mut sim = Sim::default();
    sim.rtc.absent = true;
    assert_eq!(read(&mut sim), Reading::Absent);
}

#[test]
fn a_look_tells_how_many_accesses_it_took_and_takes_few_while_the_second_is_the_same() {
    let took = |sim: &mut Sim| {
        let before = sim.accesses;
        let look = sim.second();
        assert_eq!(look.accesses, sim.accesses - before);
        (look.shows.is_some(), look.accesses)
    };
    let mut sim = Sim::default();
    assert_eq!(took(&mut sim), (true, 18));
    assert_eq!(took(&mut sim), (true, 4));
    sim.time_us += 1_000_000;
    assert_eq!(took(&mut sim), (true, 18));
    sim.rtc.updating = true;
    assert_eq!(took(&mut sim), (false, 2));
    sim.rtc.absent = true;
    assert_eq!(took(&mut sim), (false, 2));
}
