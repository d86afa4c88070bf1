//! A machine that is put back before the image's first instruction again and again.

use super::state::State;
use crate::machine::gdb::Stop;
use crate::machine::kept::Kept;
use crate::machine::payload;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::time::Duration;

/// Longer than the image ever takes: its budget is 15 s, and an emulated CPU on a busy machine gets half of the time.
const LIMIT: Duration = Duration::from_secs(40);

/// What comes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// An NMI.
    Nmi,
    /// A machine check after which the CPU may go on where it was (RIPV).
    Restartable,
    /// A machine check that corrupts the context of what ran (PCC, no RIPV).
    Fatal,
    /// The same, to every CPU.
    Broadcast,
}

impl Event {
    /// The monitor's command for a machine check: CPU, bank, its status (valid, uncorrected, enabled, address valid, and
    /// for a fatal one context corrupt; a cache's data read), the CPU's status (in progress, restartable or not),
    /// address, more (Intel SDM volume 3, 16.3).
    #[must_use]
    pub fn machine_check(self) -> String {
        let all = if self == Self::Broadcast { "-b " } else { "" };
        let status =
            if self == Self::Restartable { "0xb400000000000135 0x5" } else { "0xb600000000000135 0x4" };
        format!("mce {all}0 1 {status} 0x12345000 0")
    }
}

/// As the list of what is lost names it.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nmi => "nmi",
            Self::Restartable => "mc-restartable",
            Self::Fatal => "mc-fatal",
            Self::Broadcast => "mc-broadcast",
        })
    }
}

/// What is done to the machine, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It goes on to the instruction at this offset in the image.
    Until(u64),
    /// It goes on to the first of these two.
    UntilOneOf(u64, u64),
    /// Something comes from outside, and is taken before the next instruction.
    Event(Event),
    /// These bits of the byte at this offset in the image change.
    Flip(u64, u8),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The dump kernel was entered. `reported`: with the image's last line on the console before.
    Dump {
        /// Was it?
        reported: bool,
    },
    /// The machine was reset. `told`: the image said that it would.
    Reset {
        /// Did it?
        told: bool,
    },
    /// It went on for ever, or stood still.
    Hang,
    /// It never came to where something was to be done to it.
    Missed,
}

/// An instruction that was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Bytes from the image's first; the dump kernel's are beyond the image's end, on either side.
    pub at: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A line of QEMU's log of what it has translated.
#[derive(Debug, PartialEq, Eq)]
enum Translated {
    /// An instruction's first line.
    Begins { address: u64, bytes: u64 },
    /// More bytes of an instruction that is long.
    GoesOn { bytes: u64 },
}

impl Translated {
    /// `0x15bca450:  48 8b 35 01 02 00 00     movq     0x201(%rip), %rsi`
    fn read(line: &str) -> Option<Self> {
        let (address, rest) = line.strip_prefix("0x")?.split_once(':')?;
        let address = u64::from_str_radix(address, 16).ok()?;
        let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        let bytes = rest.split_whitespace().take_while(is_byte).count();
        let is_named = rest.split_whitespace().nth(bytes).is_some();
        let bytes = bytes as u64;
        Some(if is_named { Self::Begins { address, bytes } } else { Self::GoesOn { bytes } })
    }
}

/// The machine.
pub struct Bench {
    machine: Kept,
    image: u64,
}

impl Bench {
    /// Starts QEMU and brings it to the state.
    ///
    /// # Errors
    /// When it does not come there.
    pub fn start(state: &State) -> Result<Self> {
        Ok(Self { machine: Kept::start(&state.machine, &state.file)?, image: state.image })
    }

    /// Does all this to the machine, and lets it go on.
    ///
    /// # Errors
    /// When QEMU fails.
    pub fn run(&mut self, acts: &[Act]) -> Result<End> {
        self.machine.put_back()?;
        for act in acts {
            if let Some(end) = self.act(*act)? {
                return Ok(if matches!(end, End::Dump { .. }) { End::Missed } else { end });
            }
        }
        let stop = self.machine.gdb.go_on(LIMIT)?;
        self.end(stop)
    }

    /// All instructions that are reached, in the order of the first time: of the image and of the dump kernel.
    ///
    /// # Errors
    /// When QEMU fails, or the dump kernel is not reached.
    pub fn reached(&mut self, acts: &[Act]) -> Result<Vec<Instruction>> {
        let log = self.machine.folder.path().join("log");
        // Each instruction is translated by itself, and is translated when it is reached.
        self.machine.monitor.order("singlestep on")?;
        self.machine.monitor.order(&format!("logfile {}", log.display()))?;
        self.machine.monitor.order("log in_asm")?;
        let end = self.run(acts)?;
        self.machine.monitor.order("log none")?;
        self.machine.monitor.order("singlestep off")?;
        let text = fs::read_to_string(&log)?;
        fs::remove_file(&log)?;
        let mut reached: Vec<Instruction> = Vec::new();
        let mut seen = HashSet::new();
        let mut new = false;
        for line in text.lines() {
            match Translated::read(line) {
                Some(Translated::Begins { address, bytes }) => {
                    let at = address.wrapping_sub(self.image);
                    new = seen.insert(at);
                    if new {
                        reached.push(Instruction { at, len: bytes });
                    }
                }
                Some(Translated::GoesOn { bytes }) if new => {
                    if let Some(last) = reached.last_mut() {
                        last.len += bytes;
                    }
                }
                _ => {}
            }
        }
        ensure!(!reached.is_empty(), "QEMU has logged no instruction; {end:?}");
        Ok(reached)
    }

    /// Does this; the end, when it comes to that.
    fn act(&mut self, act: Act) -> Result<Option<End>> {
        let stop = match act {
            Act::Until(offset) => self.go_to(&[offset])?,
            Act::UntilOneOf(one, other) => self.go_to(&[one, other])?,
            Act::Event(Event::Nmi) => {
                self.machine.monitor.nmi()?;
                Stop::There
            }
            Act::Event(event) => {
                let said = self.machine.monitor.human(&event.machine_check())?;
                // QEMU's word for a CPU that takes no machine check, whose machine it resets at once.
                if said.contains("triple fault") { Stop::Off } else { Stop::There }
            }
            Act::Flip(offset, bits) => {
                let address = self.image.wrapping_add(offset);
                let byte = *self.machine.gdb.read(address, 1)?.first().context("nothing was read")?;
                self.machine.gdb.write(address, &[byte ^ bits])?;
                Stop::There
            }
        };
        if stop == Stop::There { Ok(None) } else { self.end(stop).map(Some) }
    }

    /// Lets it run to one of these places in the image.
    fn go_to(&mut self, offsets: &[u64]) -> Result<Stop> {
        let addresses: Vec<u64> = offsets.iter().map(|offset| self.image.wrapping_add(*offset)).collect();
        if addresses.contains(&self.machine.gdb.rip()?) {
            return Ok(Stop::There);
        }
        for address in &addresses {
            self.machine.gdb.stop_at(*address)?;
        }
        let stop = self.machine.gdb.go_on(LIMIT)?;
        for address in &addresses {
            self.machine.gdb.pass(*address)?;
        }
        Ok(stop)
    }

    /// What it means that the machine stands still.
    fn end(&self, stop: Stop) -> Result<End> {
        let console = self.machine.console()?;
        let has = |text: &str| console.contains(text);
        Ok(match stop {
            Stop::There => bail!("the machine stopped where it was not to"),
            Stop::Limit => End::Hang,
            Stop::Off if has(payload::LINE) => {
                End::Dump { reported: has("lastwords: starting the dump kernel") }
            }
            Stop::Off => End::Reset { told: has("lastwords: resetting the machine") },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Translated;

    #[test]
    fn instructions_are_read_from_qemus_log() {
        let line = "0x15bca450:  48 8b 35 01 02 00 00     movq     0x201(%rip), %rsi";
        assert_eq!(Translated::read(line), Some(Translated::Begins { address: 0x15bca450, bytes: 7 }));
        assert_eq!(Translated::read("0x15bca500:  9c cb"), Some(Translated::GoesOn { bytes: 2 }));
        assert_eq!(Translated::read("IN: "), None);
    }
}
