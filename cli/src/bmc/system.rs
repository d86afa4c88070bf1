//! The running system behind core's traits: its clock, and I/O ports where a transport to the BMC needs them.

use super::ports::Ports;
use lastwords_core::{
    budget::{Millis, Timer},
    device::rtc,
    hw::{Clock, Register, Registers, Second},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a pause is at least.
const NAP: Duration = Duration::from_millis(1);

/// The running system.
pub struct System {
    ports: Option<Ports>,
    start: Instant,
    /// Nanoseconds of a clock in whose time a test waits.
    #[cfg(test)]
    pub simulated: Option<std::sync::Arc<std::sync::atomic::AtomicU64>>,
}

impl System {
    /// The frequency of its counter: [`Clock::ticks`] are nanoseconds.
    pub const KHZ: u32 = 1_000_000;

    /// With I/O ports, where a transport needs them.
    pub fn new(ports: Option<Ports>) -> Self {
        Self {
            ports,
            start: Instant::now(),
            #[cfg(test)]
            simulated: None,
        }
    }

    /// A timer that ends after so much time; never where there is no limit.
    pub fn timer(&mut self, limit: Option<Duration>) -> Timer {
        let limit = limit.and_then(|limit| Millis::try_from(limit.as_millis()).ok());
        Timer::start(self, Some(Self::KHZ), limit.unwrap_or(Millis::MAX))
    }

    /// The moment that a deadline by this timer is.
    pub fn instant(&mut self, timer: &mut Timer, deadline: Millis) -> Instant {
        let left = deadline.saturating_sub(timer.now(self));
        Instant::now() + Duration::from_millis(u64::from(left))
    }
}

impl Registers for System {
    fn get(&mut self, register: Register) -> u8 {
        self.port(register).and_then(|(ports, port)| ports.get(port)).unwrap_or(0xff)
    }

    fn put(&mut self, register: Register, value: u8) {
        if let Some((ports, port)) = self.port(register) {
            ports.put(port, value);
        }
    }
}

impl System {
    /// The port that a register is. Registers in memory are the driver's alone.
    fn port(&self, register: Register) -> Option<(&Ports, u16)> {
        let (Some(ports), Register::Port(port)) = (&self.ports, register) else { return None };
        // The running kernel reads the CMOS clock through the same index and data ports, and we cannot take its lock.
        (![rtc::INDEX, rtc::DATA].contains(&register)).then_some((ports, port))
    }
}

impl Clock for System {
    fn ticks(&mut self) -> u64 {
        #[cfg(test)]
        if let Some(clock) = &self.simulated {
            return clock.load(std::sync::atomic::Ordering::Relaxed);
        }
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn second(&mut self) -> Second {
        Second { shows: None, accesses: 0 }
    }

    fn relax(&mut self) {
        #[cfg(test)]
        if let Some(clock) = &self.simulated {
            clock.fetch_add(NAP.as_nanos() as u64, std::sync::atomic::Ordering::Relaxed);
            return;
        }
        thread::sleep(NAP);
    }
}
