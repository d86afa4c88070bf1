//! An MC146818 in every mode, that can stop, be absent or update itself for ever.

/// Seconds in a day.
const DAY: u64 = 86_400;

/// How the clock counts.
#[derive(Clone, Copy, Debug)]
pub struct RtcMode {
    /// Binary registers, not BCD.
    pub binary: bool,
    /// Hours to 24, not to 12.
    pub hours_24: bool,
}

/// The clock.
pub struct Rtc {
    /// How it counts.
    pub mode: RtcMode,
    /// It shows the same second for ever.
    pub stopped: bool,
    /// Update in progress, for ever.
    pub updating: bool,
    /// Every register reads 0xff.
    pub absent: bool,
    /// How often its second was read.
    pub reads: u64,
    offset: u64,
    index: u8,
}

impl Default for Rtc {
    fn default() -> Self {
        Self {
            mode: RtcMode { binary: false, hours_24: true },
            stopped: false,
            updating: false,
            absent: false,
            reads: 0,
            offset: 3 * 3600,
            index: 0,
        }
    }
}

impl Rtc {
    /// Sets the clock: second of the day at time 0.
    pub fn set(&mut self, second: u32) {
        self.offset = u64::from(second);
    }

    pub(crate) fn write(&mut self, port: u16, value: u8) {
        if port == 0x70 {
            self.index = value & 0x7f;
        }
    }

    pub(crate) fn read(&mut self, port: u16, time_us: u64) -> u8 {
        if self.absent || port == 0x70 {
            return 0xff;
        }
        let passed = if self.stopped { 0 } else { time_us / 1_000_000 };
        let second = (self.offset + passed) % DAY;
        let RtcMode { binary, hours_24 } = self.mode;
        let number = |value: u64| {
            let value = value as u8;
            if binary { value } else { ((value / 10) << 4) | (value % 10) }
        };
        self.reads += u64::from(self.index == 0);
        match self.index {
            0x00 => number(second % 60),
            0x02 => number(second / 60 % 60),
            0x04 if hours_24 => number(second / 3600),
            0x04 => {
                let hour = second / 3600;
                let twelve = (hour + 11) % 12 + 1;
                number(twelve) | if hour >= 12 { 0x80 } else { 0 }
            }
            0x0a => 0x26 | if self.updating { 0x80 } else { 0 },
            0x0b => (u8::from(binary) << 2) | (u8::from(hours_24) << 1),
            _ => 0,
        }
    }
}
