//! A 16550 UART's transmitter, with a bound on every wait; and where one is, as a parameter names it.

use crate::arch;
use crate::budget::{Millis, Timer};
use crate::cmdline;
use crate::hw::{Clock, Register, Registers};
use core::fmt;

/// Transmitter holding register; divisor latch, low byte, with DLAB. As the others an offset from the first register.
const THR: u16 = 0;
/// Interrupt enable; divisor latch, high byte, with DLAB.
const IER: u16 = 1;
/// Line control.
const LCR: u16 = 3;
/// Line status.
const LSR: u16 = 5;
/// So many registers it has.
const REGISTERS: u16 = 8;
/// LCR: divisor latch access.
const DLAB: u8 = 0x80;
/// LCR: 8 data bits, no parity, 1 stop bit.
const LCR_8N1: u8 = 0x03;
/// LSR: transmitter holding register empty.
const THRE: u8 = 0x20;
/// The baud rate that a divisor of 1 gives.
const BASE_BAUD: u32 = 115_200;

/// Longest wait for one byte to leave: three at 300 baud.
const BYTE: Millis = 100;
/// Bytes that are sent before the budget is looked at again.
const BETWEEN_ASKINGS: usize = 32;
/// So many bytes that did not leave in time, and the UART counts as dead.
const STUCK: u8 = 2;

/// Where a 16550 UART is, and its line speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// First of its eight registers.
    pub base: Register,
    /// Bytes from one register to the next: 1, or 4 (`mmio32`).
    pub spacing: u16,
    /// Line speed to set (8 data bits, no parity, 1 stop bit). `None`: as the crashed kernel left it.
    pub baud: Option<u32>,
}

/// What stands before the address of a UART with 32-bit registers.
const MMIO_32: &str = "mmio32:";

impl Serial {
    /// Reads where one is: `ttyS0` to `ttyS3`, an I/O port such as 0x3f8, `mmio:ADDR`, or `mmio32:ADDR` with four bytes
    /// from one register to the next. What stands behind a comma is not read. The kernel's own comma for the colon is
    /// read as well.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (base, spacing) = if let Some(rest) = text.strip_prefix("mmio") {
            let (spacing, rest) = rest.strip_prefix("32").map_or((1, rest), |rest| (4, rest));
            let (b":" | b",", addr) = rest.as_bytes().split_at_checked(1)? else { return None };
            (Register::memory(number(addr)?)?, spacing)
        } else if let Some(line) = text.strip_prefix("ttyS") {
            (*arch::TTY_S.get(usize::try_from(number(line.as_bytes())?).ok()?)?, 1)
        } else {
            let port = u16::try_from(number(text.as_bytes())?).ok()?;
            (Register::Port(Some(port).filter(|port| (1..=0xfff8).contains(port))?), 1)
        };
        Some(Self { base, spacing, baud: None })
    }

    /// Reads a line speed that a 16550's divisor gives exactly: 115200 / n.
    #[must_use]
    pub fn parse_baud(text: &str) -> Option<u32> {
        let baud = u32::try_from(cmdline::number(text)?).ok()?;
        (baud > 1 && BASE_BAUD.checked_rem(baud) == Some(0)).then_some(baud)
    }

    /// Has one of its registers a port that is another device's on every machine ([`arch::RESERVED_PORTS`])?
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(self.base, Register::Port(port) if arch::is_reserved(port, REGISTERS))
    }

    /// Its register of this number, 0 to 7.
    #[must_use]
    pub fn register(&self, number: u16) -> Register {
        self.base.behind(number.saturating_mul(self.spacing)).unwrap_or(self.base)
    }
}

/// The number up to a comma.
fn number(text: &[u8]) -> Option<u64> {
    cmdline::number(text.split(|byte| *byte == b',').next()?)
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (arch::TTY_S.iter().position(|port| *port == self.base), self.base) {
            (Some(line), _) => write!(f, "ttyS{line}")?,
            (None, Register::Memory(addr)) if self.spacing == 4 => write!(f, "{MMIO_32}{addr:#x}")?,
            (None, base) => write!(f, "{base}")?,
        }
        match self.baud {
            Some(baud) => write!(f, ",{baud}"),
            None => Ok(()),
        }
    }
}

/// A UART that is written to. Nothing is touched until [`Uart::begin`].
pub struct Uart {
    serial: Serial,
    stuck: u8,
}

impl Uart {
    /// The UART there.
    #[must_use]
    pub fn new(serial: Serial) -> Self {
        Self { serial, stuck: 0 }
    }

    /// Sets the line speed where one is given. False when nobody is there: the line status reads 0xff.
    pub fn begin<R: Registers>(&mut self, registers: &mut R) -> bool {
        let at = |number| self.serial.register(number);
        if registers.get(at(LSR)) == 0xff {
            return false;
        }
        if let Some(divisor) = self.serial.baud.and_then(|baud| BASE_BAUD.checked_div(baud)) {
            let [low, high, ..] = divisor.to_le_bytes();
            registers.put(at(LCR), LCR_8N1 | DLAB);
            registers.put(at(THR), low);
            registers.put(at(IER), high);
            registers.put(at(LCR), LCR_8N1);
            registers.put(at(IER), 0);
        }
        true
    }

    /// Sends bytes, as many as there is time for. False when the UART does not take them: it is to be left alone then.
    pub fn send<M: Registers + Clock>(&mut self, machine: &mut M, timer: &mut Timer, bytes: &[u8]) -> bool {
        let (status, data) = (self.serial.register(LSR), self.serial.register(THR));
        for (number, byte) in bytes.iter().enumerate() {
            // An access can be slow although the UART never lets wait.
            if number.is_multiple_of(BETWEEN_ASKINGS) && timer.spent(machine) {
                return true;
            }
            let ready =
                timer.wait_for(machine, BYTE, |machine| (machine.get(status) & THRE != 0).then_some(()));
            if ready.is_none() {
                // It may well have been about to: what comes last has time of its own.
                if timer.was_spent() {
                    return true;
                }
                self.stuck += 1;
            }
            if self.stuck >= STUCK {
                return false;
            }
            machine.put(data, *byte);
            timer.count(2);
        }
        true
    }
}
