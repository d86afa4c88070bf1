//! The way to the BMC through its KCS ports, with core's own protocol, for a kernel without an IPMI driver: the dump
//! kernel, mostly. Two programs at the same ports would talk past each other, so with a driver it refuses.

use super::{Error, Request, Transport};
use lastwords_core::{
    budget::{Millis, Timer},
    hw::{Clock, Ports, Register},
    kcs::{self, Kcs},
    plan::KcsPorts,
    rtc,
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::Instant,
};

/// Longest answer that is taken, NetFn and command included. What we ask for has at most 21 bytes.
const ANSWER_LEN: usize = 256;

/// How often a request is sent again after an answer that was out of step.
const RETRIES: u8 = 3;

/// The interface at two ports.
pub struct Interface {
    kcs: Kcs,
    ports: KcsPorts,
    machine: Machine,
}

impl Interface {
    /// Opens the way to the ports. Touches none.
    ///
    /// # Errors
    /// When the kernel's driver has them, or we may not use any.
    pub fn open(root: &Path, ports: KcsPorts) -> Result<Self, Error> {
        let (Register::Port(data), Register::Port(status)) = (ports.data, ports.status) else {
            let why = "memory-mapped registers are the driver's alone: modprobe ipmi_si ipmi_devintf";
            return Err(Error::NoPorts(io::Error::other(why)));
        };
        let ioports = fs::read_to_string(root.join("proc/ioports")).unwrap_or_default();
        if [data, status].iter().any(|port| driver_has(&ioports, *port)) {
            return Err(Error::DriverHasPorts(ports));
        }
        let path = root.join("dev/port");
        let file = File::options().read(true).write(true).open(&path).map_err(|error| {
            // EPERM is the kernel's own word: lockdown.
            match error.raw_os_error() {
                Some(libc::EACCES) => Error::Permission(path.display().to_string()),
                _ => Error::NoPorts(error),
            }
        })?;
        Ok(Self { kcs: Kcs::new(ports), ports, machine: Machine { port: file, start: Instant::now() } })
    }
}

impl Transport for Interface {
    fn transfer(&mut self, request: Request<'_>, deadline: Instant) -> Result<Vec<u8>, Error> {
        let message = [&[request.net_fn << 2, request.cmd], request.data].concat();
        let budget = deadline.saturating_duration_since(Instant::now()).as_millis();
        let budget = Millis::try_from(budget).unwrap_or(Millis::MAX);
        let mut timer = Timer::start(&mut self.machine, Some(Machine::KHZ), budget);
        for _ in 0..=RETRIES {
            let mut answer = [0; ANSWER_LEN];
            let end = timer.within(budget);
            match self.kcs.transfer(&mut self.machine, &mut timer, &message, &mut answer, end) {
                // Bit 2 of the first byte marks a response. Another one's answer may have been waiting.
                Ok(len) if len > 2 && answer[..2] == [(request.net_fn | 1) << 2, request.cmd] => {
                    return Ok(answer[2..len].to_vec());
                }
                Err(kcs::Error::Absent) => return Err(Error::Absent(self.ports)),
                Err(kcs::Error::Timeout) => return Err(Error::Silent(request.name())),
                _ => {}
            }
        }
        Err(Error::Garbled(request.name()))
    }
}

/// Has Linux' IPMI driver reserved this port? By /proc/ioports: `  0ca2-0ca2 : ipmi_si`.
fn driver_has(ioports: &str, port: u16) -> bool {
    ioports.lines().any(|line| {
        let Some((range, owner)) = line.trim().split_once(" : ") else { return false };
        let Some((first, last)) = range.split_once('-') else { return false };
        let number = |text| u16::from_str_radix(text, 16);
        owner.starts_with("ipmi")
            && matches!((number(first), number(last)), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

/// This machine's ports, and its clock.
struct Machine {
    port: File,
    start: Instant,
}

impl Machine {
    /// What [`Clock::tsc`] counts: nanoseconds.
    const KHZ: u32 = 1_000_000;
}

impl Ports for Machine {
    fn inb(&mut self, port: u16) -> u8 {
        // The running kernel reads the CMOS clock through the same index and data ports, and we cannot take its lock.
        if matches!(port, rtc::INDEX | rtc::DATA) {
            return 0xff;
        }
        let mut byte = [0xff];
        let read = retried(|| self.port.read_at(&mut byte, u64::from(port)));
        if read { byte[0] } else { 0xff }
    }

    fn outb(&mut self, port: u16, value: u8) {
        if !matches!(port, rtc::INDEX | rtc::DATA) {
            // A byte that is lost shows in the BMC's state.
            retried(|| self.port.write_at(&[value], u64::from(port)));
        }
    }
}

impl Clock for Machine {
    fn tsc(&mut self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Did one byte go through, signals or not?
fn retried(mut access: impl FnMut() -> io::Result<usize>) -> bool {
    loop {
        match access() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return matches!(result, Ok(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_driver_are_left_alone() {
        let ioports = "\
0000-0cf7 : PCI Bus 0000:00
  0000-001f : dma1
  0ca2-0ca2 : ipmi_si
    0ca2-0ca2 : ipmi_si
  0ca3-0ca3 : ipmi_si
0d00-ffff : PCI Bus 0000:00
  0e00-0e03 : pnp 00:05
";
        let has = [0xca1, 0xca2, 0xca3, 0xca4, 0xe00].map(|port| driver_has(ioports, port));
        assert_eq!(has, [false, true, true, false, false]);
        assert!(driver_has("  0ca8-0cac : ipmi_si\n", 0xcaa));

        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/ioports"), ioports).unwrap();
        let refused = Interface::open(root.path(), KcsPorts::DEFAULT).err();
        assert!(matches!(refused, Some(Error::DriverHasPorts(_))), "{refused:?}");
        let other = Interface::open(root.path(), KcsPorts::io(0xca8, 0xcac)).err();
        assert!(matches!(other, Some(Error::NoPorts(_))), "{other:?}");
    }
}
