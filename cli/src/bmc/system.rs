//! The running system behind core's traits: its clock, and I/O ports through /dev/port where a transport to the BMC needs them.

use lastwords_core::{
    budget::{Millis, Timer},
    device::rtc,
    hw::{Clock, Register, Registers, Second},
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

/// How long a pause is at least.
const NAP: Duration = Duration::from_millis(1);

/// The running system.
pub struct System {
    port: Option<File>,
    start: Instant,
}

impl System {
    /// The frequency of its counter: [`Clock::ticks`] are nanoseconds.
    pub const KHZ: u32 = 1_000_000;

    /// With /dev/port, where it is open.
    pub fn new(port: Option<File>) -> Self {
        Self { port, start: Instant::now() }
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
        let mut byte = [0xff];
        let read = self.access(register, |file, port| file.read_at(&mut byte, port));
        if read { byte[0] } else { 0xff }
    }

    fn put(&mut self, register: Register, value: u8) {
        // A byte that is lost shows in the BMC's state.
        self.access(register, |file, port| file.write_at(&[value], port));
    }
}

impl System {
    /// Did one byte go through, signals or not? Registers in memory are the driver's alone.
    fn access(&self, register: Register, mut access: impl FnMut(&File, u64) -> io::Result<usize>) -> bool {
        let (Some(file), Register::Port(port)) = (&self.port, register) else { return false };
        // The running kernel reads the CMOS clock through the same index and data ports, and we cannot take its lock.
        if [rtc::INDEX, rtc::DATA].contains(&register) {
            return false;
        }
        loop {
            match access(file, u64::from(port)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return matches!(result, Ok(1)),
            }
        }
    }
}

impl Clock for System {
    fn ticks(&mut self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn second(&mut self) -> Second {
        Second { shows: None, accesses: 0 }
    }

    fn relax(&mut self) {
        thread::sleep(NAP);
    }
}
