//! Where console lines go, as a parameter names it: a UART, the text screen, both or neither.

use crate::arch;
use crate::cmdline;
use crate::device::uart::Serial;
use core::fmt;

/// Where console lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleDevices {
    /// A 16550 UART.
    pub serial: Option<Serial>,
    /// The VGA text screen.
    pub vga: bool,
}

impl ConsoleDevices {
    /// Reads a list of `ttyS0` to `ttyS3` or a port, a line speed behind it, `vga`; or `none` alone.
    ///
    /// # Errors
    /// When it is not that, or [`arch::RESERVED`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHY: &str =
            "takes ttyS0 to ttyS3, a port or mmio[32]:ADDR, with ,BAUD (115200/n) if wanted; vga; or none";
        let mut console = Self { serial: None, vga: false };
        if text == "none" {
            return Ok(console);
        }
        for item in cmdline::fields(text) {
            if item == "vga" {
                console.vga = true;
            } else if let Some(serial) = &mut console.serial {
                if serial.baud.is_some() {
                    return Err(WHY);
                }
                serial.baud = Some(Serial::parse_baud(item).ok_or(WHY)?);
            } else {
                let serial = Serial::parse(item).ok_or(WHY)?;
                if serial.is_reserved() {
                    return Err(arch::RESERVED);
                }
                console.serial = Some(serial);
            }
        }
        Ok(console)
    }

    /// The dump kernel's own serial console: the last UART of `console=` on its command line; where there is none, of
    /// `earlycon=`, then of `earlyprintk=`, which print for a moment only. The line speed is left as it is, because the
    /// crashed kernel has most likely used the same UART.
    #[must_use]
    pub fn of_kernel(line: &str) -> Self {
        let (mut best, mut serial) = (usize::MAX, None);
        for word in cmdline::words(line) {
            let Some((name, value)) = cmdline::cut(word, b'=') else { continue };
            // Those that last have the shortest names.
            if is_console(name)
                && name.len() <= best
                && let Some(found) = uart(value)
            {
                (best, serial) = (name.len(), Some(found));
            }
        }
        Self { serial, vga: false }
    }
}

/// Does the kernel's parameter of this name have a console?
#[must_use]
pub fn is_console(name: &str) -> bool {
    matches!(name, "console" | "earlycon" | "earlyprintk")
}

/// The UART of a console: `ttySn`, `uart[8250],io,PORT`, `uart[8250],mmio[32],ADDR`, `serial[,ttySn]`, `serial,PORT`
/// (`Documentation/admin-guide/kernel-parameters.txt`), what else is behind it left out.
#[inline(never)]
fn uart(value: &str) -> Option<Serial> {
    let (mut value, mut is_port) = (value, false);
    for _ in 0..2 {
        if let Some((before, rest)) = cmdline::cut(value, b',')
            && let [first @ (b'u' | b'i' | b's'), ..] = before.as_bytes()
        {
            // To the kernel a number right behind `uart` is an address in memory.
            (value, is_port) = (rest, *first != b'u');
        }
    }
    if value == "serial" {
        value = "ttyS0";
    }
    let is_uart = is_port || !matches!(value.as_bytes(), [b'0'..=b'9', ..]);
    Serial::parse(value).filter(|serial| is_uart && !serial.is_reserved())
}

impl fmt::Display for ConsoleDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.serial, self.vga) {
            (None, true) => f.write_str("vga"),
            (None, false) => f.write_str("none"),
            (Some(serial), true) => write!(f, "{serial},vga"),
            (Some(serial), false) => write!(f, "{serial}"),
        }
    }
}
