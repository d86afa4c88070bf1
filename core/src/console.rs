//! The words on the console: a 16550 UART and the VGA text screen, as kexec-tools' purgatory has
//! them, but with a bound on every wait.

use crate::budget::{Millis, Timer};
use crate::hw::{Machine, Ports};
use crate::plan;

/// Registers of the 16550, as offsets from its first port.
mod uart {
    /// Transmitter holding register; divisor latch, low byte, with DLAB.
    pub const THR: u16 = 0;
    /// Interrupt enable; divisor latch, high byte, with DLAB.
    pub const IER: u16 = 1;
    /// Line control.
    pub const LCR: u16 = 3;
    /// Line status.
    pub const LSR: u16 = 5;
    /// LCR: divisor latch access.
    pub const DLAB: u8 = 0x80;
    /// LCR: 8 data bits, no parity, 1 stop bit.
    pub const LCR_8N1: u8 = 0x03;
    /// LSR: transmitter holding register empty.
    pub const THRE: u8 = 0x20;
    /// The baud rate that a divisor of 1 gives.
    pub const BASE_BAUD: u32 = 115_200;
}

/// Longest wait for one byte to leave: three at 300 baud.
const BYTE: Millis = 100;
/// So many bytes that did not leave in time, and the UART counts as dead.
const STUCK: u8 = 2;

/// The text screen: 25 lines of 80 cells, at its address since the first PC.
const SCREEN: u64 = 0xb8000;
const ROWS: u64 = 25;
const COLUMNS: usize = 80;
const ROW_LEN: u64 = 2 * COLUMNS as u64;
/// Light grey on black.
const ATTRIBUTE: u8 = 0x07;

/// Where the words go. Nothing is touched until the first line.
pub struct Console {
    serial: Option<plan::Serial>,
    vga: bool,
    begun: bool,
    stuck: u8,
}

impl Console {
    /// The console that the plan names.
    #[must_use]
    pub fn new(plan: plan::Console) -> Self {
        Self { serial: plan.serial, vga: plan.vga, begun: false, stuck: 0 }
    }

    /// Writes one line. What cannot be written in time is lost.
    pub fn line<M: Machine>(&mut self, machine: &mut M, timer: &mut Timer, text: &[u8]) {
        if !self.begun {
            self.begun = true;
            self.begin(machine);
            // The dead kernel may have stopped in the middle of a line.
            self.send(machine, timer, b"\r\n");
        }
        self.send(machine, timer, text);
        self.send(machine, timer, b"\r\n");
        if self.vga {
            screen_line(machine, text);
        }
    }

    /// Sets the UART up where the plan asks for it, and gives up one that is not there.
    fn begin<P: Ports>(&mut self, ports: &mut P) {
        let Some(serial) = self.serial else { return };
        if ports.get(serial.register(uart::LSR)) == 0xff {
            self.serial = None;
            return;
        }
        let Some(divisor) = serial.baud.and_then(|baud| uart::BASE_BAUD.checked_div(baud)) else { return };
        let [low, high, ..] = divisor.to_le_bytes();
        ports.put(serial.register(uart::LCR), uart::LCR_8N1 | uart::DLAB);
        ports.put(serial.register(uart::THR), low);
        ports.put(serial.register(uart::IER), high);
        ports.put(serial.register(uart::LCR), uart::LCR_8N1);
        ports.put(serial.register(uart::IER), 0);
    }

    fn send<M: Machine>(&mut self, machine: &mut M, timer: &mut Timer, bytes: &[u8]) {
        let Some(serial) = self.serial else { return };
        let status = serial.register(uart::LSR);
        for byte in bytes {
            if machine.get(status) & uart::THRE == 0 {
                // The clocks are asked only once there is something to wait for.
                timer.now(machine);
                let deadline = timer.within(BYTE);
                while machine.get(status) & uart::THRE == 0 {
                    if timer.passed(machine, deadline) {
                        self.stuck += 1;
                        break;
                    }
                }
            }
            if self.stuck >= STUCK {
                self.serial = None;
                return;
            }
            machine.put(serial.register(uart::THR), *byte);
        }
    }
}

/// Scrolls the text screen up and writes a line at its bottom.
fn screen_line<M: Machine>(machine: &mut M, text: &[u8]) {
    let mut row = [0; ROW_LEN as usize];
    for line in 1..ROWS {
        if machine.read(SCREEN + line * ROW_LEN, &mut row) {
            machine.write(SCREEN + (line - 1) * ROW_LEN, &row);
        }
    }
    let blank = core::iter::repeat(&b' ');
    for (cell, byte) in row.chunks_exact_mut(2).zip(text.iter().chain(blank)) {
        if let [glyph, attribute] = cell {
            *glyph = *byte;
            *attribute = ATTRIBUTE;
        }
    }
    machine.write(SCREEN + (ROWS - 1) * ROW_LEN, &row);
}
