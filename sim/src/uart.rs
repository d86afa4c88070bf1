//! A 16550's transmitter.

/// The UART.
pub struct Uart {
    /// What was sent.
    pub sent: Vec<u8>,
    /// Nobody there: every register reads 0xff.
    pub absent: bool,
    /// Microseconds for one byte; `u64::MAX` for one that never becomes ready.
    pub byte_us: u64,
    /// The divisor that was set, if one was.
    pub divisor: Option<u16>,
    lcr: u8,
    latch: [u8; 2],
    ready_at: u64,
}

impl Default for Uart {
    fn default() -> Self {
        Self {
            sent: Vec::new(),
            absent: false,
            byte_us: 87,
            divisor: None,
            lcr: 0,
            latch: [0; 2],
            ready_at: 0,
        }
    }
}

impl Uart {
    /// What was sent, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.sent).replace('\r', "")
    }

    pub(crate) fn read(&mut self, register: u16, time_us: u64) -> u8 {
        match register {
            _ if self.absent => 0xff,
            5 if self.byte_us != u64::MAX && time_us >= self.ready_at => 0x60,
            3 => self.lcr,
            _ => 0,
        }
    }

    pub(crate) fn write(&mut self, register: u16, value: u8, time_us: u64) {
        match register {
            0 | 1 if self.lcr & 0x80 != 0 => {
                self.latch[usize::from(register)] = value;
                self.divisor = Some(u16::from_le_bytes(self.latch));
            }
            0 => {
                self.sent.push(value);
                self.ready_at = time_us.saturating_add(self.byte_us);
            }
            3 => self.lcr = value,
            _ => {}
        }
    }
}
