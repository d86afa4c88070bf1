//! QEMU's debugger stub, as far as the tests need it: to write to physical memory behind the machine's back, as a
//! stray DMA would, and to stop the machine at an address. The protocol is GDB's ("GDB Remote Serial Protocol").

use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long QEMU may be silent before it is taken for dead.
const PATIENCE: Duration = Duration::from_secs(120);

fn is_timeout(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    })
}

/// A debugger to be: the place of the socket where QEMU listens for it.
#[derive(Debug)]
pub struct Debugger {
    folder: tempfile::TempDir,
}

impl Debugger {
    /// A new place.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new() -> Result<Self> {
        // In /tmp: a socket's path must be short.
        Ok(Self { folder: tempfile::Builder::new().prefix("lastwords-gdb-").tempdir()? })
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("gdb")
    }

    /// Connects, which stops the machine.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(&self) -> Result<Gdb> {
        Gdb::connect(&self.socket())
    }
}

/// Why a machine that was told to go on stands still again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It has come to an address where it was to stop.
    There,
    /// It is off, or was reset, where QEMU is told to keep it then.
    Off,
    /// It went on until the limit.
    Limit,
}

/// A connection to the stub. The machine stands still while there is one, but in [`Gdb::go_to`] and [`Gdb::go_on`].
#[derive(Debug)]
pub struct Gdb {
    stream: UnixStream,
}

impl Gdb {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's debugger stub is not there")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut gdb = Self { stream };
        // Addresses are physical from here on.
        ensure!(gdb.ask("Qqemu.PhyMemMode:1")? == "OK", "QEMU has no physical memory mode");
        // And a single step takes interrupts and NMIs.
        ensure!(gdb.ask("Qqemu.sstep=1")? == "OK", "QEMU steps in no other way");
        Ok(gdb)
    }

    /// Writes to physical memory.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let mut packet = format!("M{address:x},{:x}:", bytes.len());
        for byte in bytes {
            let _ = write!(packet, "{byte:02x}");
        }
        let answer = self.ask(&packet)?;
        ensure!(answer == "OK", "QEMU does not write to {address:#x}: {answer}");
        Ok(())
    }

    /// Reads physical memory.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn read(&mut self, address: u64, len: usize) -> Result<Vec<u8>> {
        let answer = self.ask(&format!("m{address:x},{len:x}"))?;
        let bytes = answer.as_bytes().chunks(2).map(|digits| {
            let digits = std::str::from_utf8(digits)?;
            u8::from_str_radix(digits, 16).with_context(|| format!("no memory at {address:#x}: {answer}"))
        });
        bytes.collect()
    }

    /// Changes one byte of physical memory, whatever it was.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn damage(&mut self, address: u64) -> Result<()> {
        let byte = *self.read(address, 1)?.first().context("nothing was read")?;
        self.write(address, &[!byte])
    }

    /// Lets the machine run until a CPU comes to this (virtual) address.
    ///
    /// # Errors
    /// When it does not come there, or QEMU refuses.
    pub fn go_to(&mut self, address: u64) -> Result<()> {
        self.stop_at(address)?;
        self.send("c")?;
        let stopped = self.receive()?;
        ensure!(stopped.starts_with('T'), "the machine is gone: {stopped}");
        // With it, the machine would stop here again and again.
        self.pass(address)
    }

    /// The machine is to stop at this (virtual) address.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn stop_at(&mut self, address: u64) -> Result<()> {
        let answer = self.ask(&format!("Z1,{address:x},1"))?;
        ensure!(answer == "OK", "QEMU sets no breakpoint at {address:#x}: {answer}");
        Ok(())
    }

    /// It is no longer to stop there.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn pass(&mut self, address: u64) -> Result<()> {
        let answer = self.ask(&format!("z1,{address:x},1"))?;
        ensure!(answer == "OK", "QEMU keeps the breakpoint at {address:#x}: {answer}");
        Ok(())
    }

    /// One instruction.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn step(&mut self) -> Result<()> {
        self.send("s")?;
        let stopped = self.receive()?;
        ensure!(stopped.starts_with("T05"), "the machine is gone: {stopped}");
        Ok(())
    }

    /// Lets the machine run until it stops by itself, or for so long.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn go_on(&mut self, limit: Duration) -> Result<Stop> {
        self.send("c")?;
        self.stream.set_read_timeout(Some(limit))?;
        let stopped = self.receive();
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let stopped = match stopped {
            Ok(stopped) => stopped,
            Err(error) if is_timeout(&error) => {
                // GDB's Ctrl-C. The machine may have stopped by itself meanwhile: that is as good.
                self.stream.write_all(&[3])?;
                self.receive()?;
                return Ok(Stop::Limit);
            }
            Err(error) => return Err(error),
        };
        // Signals: 5 is a breakpoint, 3 is QEMU's for a machine that is off.
        match stopped.get(..3) {
            Some("T05") => Ok(Stop::There),
            Some("T03") => Ok(Stop::Off),
            _ => bail!("the machine has stopped for another reason: {stopped}"),
        }
    }

    /// The instruction that comes next.
    ///
    /// # Errors
    /// When QEMU does not tell.
    pub fn rip(&mut self) -> Result<u64> {
        // The seventeenth of GDB's registers of x86-64, in the guest's byte order.
        let answer = self.ask("g")?;
        let digits = answer.get(16 * 16..17 * 16);
        let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let value = value.with_context(|| format!("no instruction pointer: {answer}"))?;
        Ok(value.swap_bytes())
    }

    /// Lets the machine run on and leaves it alone.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn detach(mut self) -> Result<()> {
        ensure!(self.ask("D")? == "OK", "QEMU does not let go");
        Ok(())
    }

    /// Asks, and passes over that the machine has stopped, which comes unasked when somebody connects.
    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        loop {
            let answer = self.receive()?;
            if !answer.starts_with('T') {
                return Ok(answer);
            }
        }
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.stream.write_all(format!("${packet}#{sum:02x}").as_bytes())?;
        Ok(())
    }

    /// The next packet; acknowledgements are passed over.
    fn receive(&mut self) -> Result<String> {
        let mut packet = Vec::new();
        let mut inside = false;
        loop {
            let mut byte = [0];
            if self.stream.read(&mut byte).context("QEMU's debugger stub is silent")? == 0 {
                bail!("QEMU's debugger stub is gone");
            }
            match byte[0] {
                b'$' => {
                    packet.clear();
                    inside = true;
                }
                b'#' if inside => break,
                byte if inside => packet.push(byte),
                _ => {}
            }
        }
        let mut sum = [0; 2];
        self.stream.read_exact(&mut sum)?;
        self.stream.write_all(b"+")?;
        Ok(String::from_utf8(packet)?)
    }
}
