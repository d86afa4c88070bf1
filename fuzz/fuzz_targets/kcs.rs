//! A BMC whose every register read is the input's next byte, and zero behind its end.
#![no_main]

use lastwords_core::budget::Timer;
use lastwords_core::hw::{Clock, Ports};
use lastwords_core::ipmi::Bmc;
use lastwords_core::plan::{Action, KcsPorts};
use libfuzzer_sys::fuzz_target;

/// The machine; time passes with every access.
struct Machine<'a> {
    reads: &'a [u8],
    accesses: u64,
}

impl Ports for Machine<'_> {
    fn inb(&mut self, port: u16) -> u8 {
        self.accesses += 1;
        // No RTC: the input is the BMC's alone.
        if port == 0x71 {
            return 0xff;
        }
        match self.reads.split_first() {
            Some((byte, rest)) => {
                self.reads = rest;
                *byte
            }
            None => 0,
        }
    }

    fn outb(&mut self, _: u16, _: u8) {
        self.accesses += 1;
    }
}

impl Clock for Machine<'_> {
    fn tsc(&mut self) -> u64 {
        self.accesses * 1000
    }
}

fuzz_target!(|input: &[u8]| {
    let mut machine = Machine { reads: input, accesses: 0 };
    let mut timer = Timer::start(&mut machine, Some(2_000_000), 50);
    let mut bmc = Bmc::new(KcsPorts::DEFAULT, 10);
    let _ = bmc.set_watchdog_timer(&mut machine, &mut timer, 60, Action::Reset);
    let _ = bmc.sel_free_space(&mut machine, &mut timer);
    let _ = bmc.add_sel_entry(&mut machine, &mut timer, b"\0\0\xf0\x20\x80hello world");
    let _ = bmc.platform_event(&mut machine, &mut timer, 0, [1, 0xff, 0xff]);
    // 2000 accesses are a millisecond by the TSC; what does not ask for the time has caps of its own.
    assert!(machine.accesses < 2_000_000, "{} accesses", machine.accesses);
});
