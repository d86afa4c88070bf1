//! The CMOS clock against a simulated one in every mode.

use lastwords_core::device::rtc::{Reading, read};
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
