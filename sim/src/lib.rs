//! The machine for tests: a BMC behind KCS, an RTC, a UART, memory and a clock, all behind core's traits.
//!
//! Time passes only when somebody touches a port: a microsecond each, as on a real LPC bus, unless a test says
//! otherwise. So every test gives the
//! same figures every time, and a wait that never ends would show as one. Each part can be told to misbehave.

mod bmc;
mod bt;
mod crash;
pub mod erst;
mod i801;
pub mod lan;
mod log_buf;
mod memory;
mod printk;
mod rtc;
mod strict;
mod uart;

pub use bmc::{Answer, KcsBmc, WatchdogState};
pub use bt::Bt;
pub use crash::{CrashedCpu, CrashedKernel, LOG};
pub use erst::Erst;
pub use i801::{BMC as SSIF_BMC, Bus, I801};
pub use log_buf::LogBuf;
pub use memory::Ram;
pub use printk::RingSize;
pub use rtc::{Rtc, RtcMode};
pub use strict::StrictKcs;
pub use uart::Uart;

use lastwords_core::arch;
use lastwords_core::device::rtc::CmosRtc;
use lastwords_core::hw::{Clock, Memory, Register, Registers, Reset, Second, Wide};
use std::collections::BTreeSet;

/// The parameter that names the KCS interface of this machine.
pub const KCS: &str = "lastwords.ipmi_kcs_ports=0xca2,0xca3";

/// The same of its BT interface.
pub const BT: &str = "lastwords.ipmi_interface=bt:0xe4";
/// The same of its SSIF.
pub const SSIF: &str = "lastwords.ipmi_interface=ssif:i801:0x700,0x42";

/// A whole machine.
pub struct Sim {
    /// Microseconds since the machine came up.
    pub time_us: u64,
    /// What of the next microsecond is over, in nanoseconds.
    pub ns: u64,
    /// What each access takes, in nanoseconds.
    pub access_ns: u64,
    /// The TSC's frequency; 0 is a TSC that has stopped.
    pub tsc_khz: u32,
    /// The CMOS clock at ports 0x70 and 0x71.
    pub rtc: Rtc,
    /// The BMC at ports 0xca2 and 0xca3.
    pub bmc: KcsBmc,
    /// The interface in front of it that forgives nothing, where one is.
    pub strict: Option<StrictKcs>,
    /// Another interface of the same BMC, at ports 0xe4 to 0xe6.
    pub bt: Bt,
    /// And another, on the bus of a controller at port 0x700.
    pub i801: I801,
    /// The UART at port 0x3f8.
    pub uart: Uart,
    /// What the hypervisor's pvpanic at port 0x505 takes: 0xff, nobody is there.
    pub pvpanic: u8,
    /// The platform's error store, where there is one.
    pub erst: Option<Erst>,
    /// Physical memory.
    pub memory: Ram,
    /// Memory-mapped registers: the address, and the port that the same register has.
    pub mmio: Vec<(u64, u16)>,
    /// What was written to ports that nobody simulates.
    pub other_writes: Vec<(u16, u8)>,
    /// When port 0xcf9 was written to first, which would have reset the machine.
    pub reset_us: Option<u64>,
    /// Every port that was written to.
    pub written: BTreeSet<u16>,
    /// How many times a register was read or written.
    pub accesses: u64,
    /// What the driver of the CMOS clock keeps.
    pub cmos: CmosRtc,
}

impl Default for Sim {
    fn default() -> Self {
        Self {
            time_us: 0,
            ns: 0,
            access_ns: 1_000,
            tsc_khz: 2_400_000,
            rtc: Rtc::default(),
            bmc: KcsBmc::default(),
            strict: None,
            bt: Bt::default(),
            i801: I801::default(),
            uart: Uart::default(),
            pvpanic: 0xff,
            erst: None,
            memory: Ram::default(),
            mmio: Vec::new(),
            other_writes: Vec::new(),
            reset_us: None,
            written: BTreeSet::new(),
            accesses: 0,
            cmos: CmosRtc::default(),
        }
    }
}

impl Sim {
    fn pass_time(&mut self) {
        self.pass(self.access_ns);
        self.accesses += 1;
    }

    fn pass(&mut self, ns: u64) {
        self.ns += ns;
        self.time_us += self.ns / 1000;
        self.ns %= 1000;
    }
}

impl Sim {
    fn read_port(&mut self, port: u16) -> u8 {
        self.pass_time();
        let ns = self.time_us * 1000 + self.ns;
        if let (0xca2..=0xca3, Some(strict)) = (port, &mut self.strict) {
            return strict.read(port == 0xca3, ns, &mut |request| self.bmc.reply_to(request, Answer::Obey));
        }
        match port {
            0x70..=0x71 => self.rtc.read(port, self.time_us),
            0xca2..=0xca3 => self.bmc.read(port, self.time_us),
            0xe4..=0xe6 => {
                let later = self.bmc.answer_us;
                self.bt.read(port - 0xe4, self.time_us, &mut |request| (self.bmc.request(request), later))
            }
            0x700..=0x71f => self.i801.read(port - 0x700, self.time_us),
            0x3f8..=0x3ff => self.uart.read(port - 0x3f8, self.time_us),
            0x505 => self.pvpanic,
            _ => 0xff,
        }
    }

    fn write_port(&mut self, port: u16, value: u8) {
        self.pass_time();
        self.written.insert(port);
        let ns = self.time_us * 1000 + self.ns;
        if let (0xca2..=0xca3, Some(strict)) = (port, &mut self.strict) {
            let obey = &mut |request: &[u8]| self.bmc.reply_to(request, Answer::Obey);
            return strict.write(port == 0xca3, value, ns, obey);
        }
        match port {
            0x70..=0x71 => self.rtc.write(port, value),
            0xca2..=0xca3 => self.bmc.write(port, value, self.time_us),
            0xe4..=0xe6 => {
                let later = self.bmc.answer_us;
                let ask = &mut |request: &[u8]| (self.bmc.request(request), later);
                self.bt.write(port - 0xe4, value, self.time_us, ask);
            }
            0x700..=0x71f => {
                let later = self.bmc.answer_us;
                let ask = &mut |request: &[u8]| (self.bmc.request(request), later);
                self.i801.write(port - 0x700, value, self.time_us, ask);
            }
            0x3f8..=0x3ff => self.uart.write(port - 0x3f8, value, self.time_us),
            _ => {
                if port == 0xcf9 {
                    self.reset_us.get_or_insert(self.time_us);
                }
                self.other_writes.push((port, value));
            }
        }
    }

    /// The port that a register is at, whatever its address space.
    fn port(&self, register: Register) -> Option<u16> {
        match register {
            Register::Port(port) => Some(port),
            Register::Memory(addr) => {
                self.mmio.iter().find(|(known, _)| *known == addr).map(|(_, port)| *port)
            }
        }
    }
}

impl Registers for Sim {
    fn get(&mut self, register: Register) -> u8 {
        self.port(register).map_or(0xff, |port| self.read_port(port))
    }

    fn put(&mut self, register: Register, value: u8) {
        if let Some(port) = self.port(register) {
            self.write_port(port, value);
        }
    }

    fn get_wide(&mut self, register: &Wide) -> u64 {
        let now = self.time_us;
        if let (false, Some(erst)) = (register.is_port, &mut self.erst)
            && let Some(value) = erst.read(register.addr, now)
        {
            self.pass_time();
            return value & u64::MAX >> (64 - 8 * u32::from(register.bytes));
        }
        (0..register.bytes).rev().fold(0, |value, at| {
            let byte = register.byte(at).map_or(0xff, |register| self.get(register));
            value << 8 | u64::from(byte)
        })
    }

    fn put_wide(&mut self, register: &Wide, value: u64) {
        let now = self.time_us;
        if let Some(erst) = &mut self.erst {
            if !register.is_port && erst.write(register.addr, value) {
                return self.pass_time();
            }
            if register.is_port
                && let Some(smi_us) = erst.smi(register.addr as u16, value as u8, &mut self.memory, now)
            {
                self.time_us += smi_us;
                return self.pass_time();
            }
        }
        for (at, byte) in (0..register.bytes).zip(value.to_le_bytes()) {
            if let Some(register) = register.byte(at) {
                self.put(register, byte);
            }
        }
    }
}

impl Memory for Sim {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        self.memory.read(addr, buf)
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) {
        self.memory.write(addr, bytes);
    }
}

impl Clock for Sim {
    fn ticks(&mut self) -> u64 {
        (self.time_us * 1000 + self.ns) * u64::from(self.tsc_khz) / 1_000_000
    }

    fn second(&mut self) -> Second {
        let mut cmos = self.cmos;
        let second = cmos.second(self);
        self.cmos = cmos;
        second
    }

    fn relax(&mut self) {
        self.pass(1_000);
    }
}

impl Reset for Sim {
    fn reset(&mut self, way: usize) -> bool {
        arch::reset(self, way)
    }
}
