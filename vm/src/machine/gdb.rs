//! QEMU's debugger stub, as far as the tests need it: to write to physical memory behind the machine's back, as a
//! stray DMA would, and to stop the machine at an address. The protocol is GDB's ("GDB Remote Serial Protocol").

use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// A connection to the stub. The machine stands still while there is one, but in [`Gdb::go_to`].
#[derive(Debug)]
pub struct Gdb {
    stream: UnixStream,
}

impl Gdb {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's debugger stub is not there")?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut gdb = Self { stream };
        // Addresses are physical from here on.
        ensure!(gdb.ask("Qqemu.PhyMemMode:1")? == "OK", "QEMU has no physical memory mode");
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
        let answer = self.ask(&format!("Z1,{address:x},1"))?;
        ensure!(answer == "OK", "QEMU sets no breakpoint at {address:#x}: {answer}");
        self.send("c")?;
        let stopped = self.receive()?;
        ensure!(stopped.starts_with('T'), "the machine is gone: {stopped}");
        // With it, the machine would stop here again and again.
        let answer = self.ask(&format!("z1,{address:x},1"))?;
        ensure!(answer == "OK", "QEMU keeps the breakpoint at {address:#x}: {answer}");
        Ok(())
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
