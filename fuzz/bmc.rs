//! A BMC whose every register read is the input's next byte, and zero behind its end: for each interface a target.

use lastwords_core::budget::Timer;
use lastwords_core::device::rtc::{self, CmosRtc};
use lastwords_core::hw::{Clock, Register, Registers, Second};
use lastwords_core::ipmi::Bmc;
use lastwords_core::ipmi::commands::{Action, AddSelEntry, GetSelInfo, SetWatchdogTimer};
use lastwords_core::ipmi::interface::{Interface, SystemInterface};
use lastwords_core::ipmi::sel_writer::critical_stop;

/// The machine; time passes with every access.
struct Machine<'a> {
    reads: &'a [u8],
    accesses: u64,
    cmos: CmosRtc,
    interface: Interface,
}

impl Registers for Machine<'_> {
    fn get(&mut self, register: Register) -> u8 {
        self.accesses += 1;
        // No RTC: the input is the BMC's alone.
        if register == rtc::DATA {
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

    fn put(&mut self, register: Register, _: u8) {
        self.accesses += 1;
        let allowed = register == rtc::INDEX || self.interface.registers().any(|one| one == register);
        assert!(allowed, "{register} written");
    }
}

impl Clock for Machine<'_> {
    fn ticks(&mut self) -> u64 {
        self.accesses * 1000
    }

    fn second(&mut self) -> Second {
        let mut cmos = self.cmos;
        let second = cmos.second(self);
        self.cmos = cmos;
        second
    }

    fn relax(&mut self) {}
}

/// Sends it some commands over this interface.
pub fn ask(interface: &str, input: &[u8]) {
    let interface = Interface::parse(interface).unwrap();
    let mut machine = Machine { reads: input, accesses: 0, cmos: CmosRtc::default(), interface };
    let mut timer = Timer::start(&mut machine, Some(2_000_000), 50);
    let mut bmc = Bmc::new(SystemInterface::new(Some(interface)), 10);
    let (machine, timer) = (&mut machine, &mut timer);
    let _ = bmc.send(machine, timer, &SetWatchdogTimer { seconds: 60, action: Action::Reset });
    let _ = bmc.send(machine, timer, &GetSelInfo);
    let _ = bmc.send(machine, timer, &AddSelEntry(b"\0\0\xf0\x20\x80hello world"));
    let _ = bmc.send(machine, timer, &critical_stop(b""));
    // 2000 accesses are a millisecond by the TSC; what does not ask for the time has caps of its own.
    assert!(machine.accesses < 2_000_000, "{} accesses", machine.accesses);
}
