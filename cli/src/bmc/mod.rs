//! Talking to the BMC from a running system: through the kernel's driver, through the KCS ports where there is no
//! driver, or over the LAN. What is asked, and when a BMC is asked again or given up, is core's (`lastwords_core::ipmi`);
//! here are the transports, and what takes several commands (`sel`).
//!
//! Every command ends: at its own time limit, and at the deadline of the whole conversation where one is set.

mod device;
pub mod discovery;
mod error;
#[cfg(test)]
mod fake;
mod kcs;
mod lan;
mod local;
pub mod redfish;
mod remote;
mod sel;
mod system;

pub use device::wait;
pub use error::BmcError;
#[cfg(test)]
pub use fake::Fake;
pub use lan::Host;
pub use local::Local;
pub use remote::Remote;
pub use sel::{Entry, SelList, is_same, names_one};
pub use system::System;

use lastwords_core::{
    budget::{Millis, Timer},
    cmdline,
    ipmi::{
        Bmc, CommandError, TransferError, Transport,
        commands::{AddSelEntry, Command, Event, ResetWatchdogTimer, SetWatchdogTimer},
        interface::KcsPorts,
        kcs::Kcs,
        message::{CompletionCode, REQUEST_LEN, Request},
        sel_writer::{SelType, SelWriter},
    },
    report::Stage,
    store::sel::Sel,
};
use std::{io, path::Path, thread, time::Duration};

/// Longest wait for one answer. OpenBMC itself gives a request up after 5 s.
const TIMEOUT: Millis = 10_000;

/// How often a busy BMC is asked again for what is sent once, and how long it is left alone between.
const BUSY_RETRIES: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A transport to a BMC, whichever it is.
pub struct AnyTransport(Box<dyn Transport<System> + Send>);

impl Transport<System> for AnyTransport {
    fn transfer(
        &mut self,
        system: &mut System,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        self.0.transfer(system, timer, request, reply, deadline)
    }
}

/// The KCS ports that a line of parameters names.
#[must_use]
pub fn named_ports(line: &str) -> Option<KcsPorts> {
    KcsPorts::parse(cmdline::last_value(line, "lastwords.ipmi_kcs_ports")?).ok()
}

/// A BMC that can be asked.
pub struct Connection {
    bmc: Bmc<AnyTransport>,
    system: System,
    timer: Timer,
    name: String,
    ports: Option<KcsPorts>,
}

impl Connection {
    /// This machine's own: through /dev/ipmi0 when it is there, else through the KCS `ports`, or when none are given,
    /// those that the SMBIOS or ACPI tables have, else the usual ones.
    ///
    /// # Errors
    /// [`BmcError::Open`], [`BmcError::Permission`], [`BmcError::NoPorts`], [`BmcError::InMemory`], [`BmcError::DriverHasPorts`].
    pub fn local(root: &Path, ports: Option<KcsPorts>) -> Result<Self, BmcError> {
        let device = root.join("dev/ipmi0");
        if device.exists() {
            return Self::device(&device);
        }
        let found = || discovery::best(&discovery::interfaces(root))?.ports();
        Self::kcs(root, ports.or_else(found).unwrap_or(KcsPorts::DEFAULT))
    }

    /// The one behind the kernel's driver.
    ///
    /// # Errors
    /// [`BmcError::Open`], [`BmcError::Permission`].
    pub fn device(path: &Path) -> Result<Self, BmcError> {
        Ok(Self::new(device::Device::open(path)?, path.display().to_string()))
    }

    /// The one behind these I/O ports.
    ///
    /// # Errors
    /// [`BmcError::Permission`], [`BmcError::NoPorts`], [`BmcError::InMemory`], [`BmcError::DriverHasPorts`]. Whether a BMC is there shows in the first
    /// command.
    pub fn kcs(root: &Path, ports: KcsPorts) -> Result<Self, BmcError> {
        let system = System::new(Some(kcs::open(root, ports)?));
        let name = format!("KCS ports {ports}");
        Ok(Self { ports: Some(ports), ..Self::of(system, Kcs::new(ports), name) })
    }

    /// The one at this host, over the LAN, at privilege level User: enough to read.
    ///
    /// # Errors
    /// [`BmcError::NoAnswer`], [`BmcError::NoSuite`], [`BmcError::Login`], [`BmcError::Io`].
    pub fn lan(host: &Host, user: &str, password: &[u8]) -> Result<Self, BmcError> {
        Ok(Self::new(lan::Session::open(host, user, password)?, host.to_string()))
    }

    /// The one behind this transport, with this name in errors and reports.
    pub fn new(transport: impl Transport<System> + Send + 'static, name: impl Into<String>) -> Self {
        Self::of(System::new(None), transport, name)
    }

    fn of(
        mut system: System,
        transport: impl Transport<System> + Send + 'static,
        name: impl Into<String>,
    ) -> Self {
        let timer = system.timer(None);
        let bmc = Bmc::new(AnyTransport(Box::new(transport)), TIMEOUT);
        Self { bmc, system, timer, name: name.into(), ports: None }
    }

    /// Through what it is reached: `/dev/ipmi0`, `KCS ports 0xca2,0xca3`, `host:623`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The KCS ports, when it is reached through them.
    #[must_use]
    pub fn ports(&self) -> Option<KcsPorts> {
        self.ports
    }

    /// After so much time from now every command fails at once.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.timer = self.system.timer(Some(limit));
        self
    }

    /// Sends a command and returns what its answer has.
    ///
    /// # Errors
    /// [`BmcError::Refused`], [`BmcError::Silent`], [`BmcError::Garbled`], [`BmcError::Absent`], [`BmcError::Io`].
    pub fn send<C: Command>(&mut self, command: &C) -> Result<C::Answer, BmcError> {
        // Nobody waits for the machine to go on: each command is worth a try of its own.
        self.bmc.try_again();
        let result = self.bmc.send(&mut self.system, &mut self.timer, command);
        result.map_err(|error| self.error(error, C::NAME))
    }

    /// Sends a command that must not be carried out twice, and returns what its answer has. Without an answer it may have
    /// been carried out or not: that is the caller's to find out.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_once<C: Command>(&mut self, command: &C) -> Result<C::Answer, BmcError> {
        let data = command.data();
        let request = Request { net_fn: C::NET_FN, cmd: C::CMD, data: data.as_ref() };
        let mut wire = [0; REQUEST_LEN];
        let wire = request.encode(&mut wire).ok_or(BmcError::Garbled(C::NAME))?;
        let mut busy = 0;
        loop {
            let mut reply = [0; 2 * REQUEST_LEN];
            let len = self.relay(wire, &mut reply, TIMEOUT);
            let len = len.map_err(|error| self.transfer_error(error, C::NAME))?;
            match reply.get(..len).and_then(|reply| request.answer(reply)) {
                Some((CompletionCode::OK, data)) => return C::answer(data).ok_or(BmcError::Garbled(C::NAME)),
                // What is behind the interface may still do it.
                Some((CompletionCode::TIMEOUT, _)) => return Err(BmcError::Silent(C::NAME)),
                // It has not been carried out.
                Some((code, _)) if code.is_busy() && busy < BUSY_RETRIES => {
                    busy += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                Some((code, _)) => return Err(BmcError::Refused(C::NAME, code)),
                None => return Err(BmcError::Garbled(C::NAME)),
            }
        }
    }

    /// Starts the watchdog, or starts it anew with another time.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn start_watchdog(&mut self, timer: SetWatchdogTimer) -> Result<(), BmcError> {
        self.send(&timer)?;
        self.send(&ResetWatchdogTimer)
    }

    /// Adds a stage to the SEL, beginning with this type of record.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn add_stage(&mut self, stage: Stage, sel_type: SelType) -> Result<(), BmcError> {
        let mut writer = SelWriter::new(sel_type);
        let mut sel = Sel { bmc: &mut self.bmc, writer: &mut writer, limit: 1, hold_back: 0 };
        let result = sel.stage(&mut self.system, &mut self.timer, stage);
        let name = if writer.sel_type == SelType::Event { Event::NAME } else { AddSelEntry::NAME };
        result.map_err(|error| self.error(error, name))
    }

    /// Carries a message there and its answer back, as they are, within `limit`.
    ///
    /// # Errors
    /// The transport's: [`TransferError`].
    pub fn relay(&mut self, request: &[u8], reply: &mut [u8], limit: Millis) -> Result<usize, TransferError> {
        self.timer.now(&mut self.system);
        let deadline = self.timer.within(limit);
        self.bmc.transport_mut().transfer(&mut self.system, &mut self.timer, request, reply, deadline)
    }

    /// What [`Connection::relay`]'s error for this command means to the user.
    pub fn transfer_error(&self, error: TransferError, command: &'static str) -> BmcError {
        let error = match error {
            TransferError::Absent => CommandError::Absent,
            TransferError::Unnamed(status) => CommandError::Unnamed(status),
            TransferError::Timeout => CommandError::Silent,
            TransferError::State(_) | TransferError::TooLong => CommandError::Garbled,
            TransferError::Os(error) => CommandError::Os(error),
        };
        self.error(error, command)
    }

    /// A command's error with what the user can do about it.
    fn error(&self, error: CommandError, command: &'static str) -> BmcError {
        match error {
            CommandError::Absent | CommandError::Unnamed(_) => {
                BmcError::Absent(self.ports.unwrap_or(KcsPorts::DEFAULT))
            }
            CommandError::Silent | CommandError::NoTime => BmcError::Silent(command),
            CommandError::Garbled => BmcError::Garbled(command),
            CommandError::Refused(code) => BmcError::Refused(command, code),
            // A machine is there, but nobody listens any more.
            CommandError::Os(libc::ECONNREFUSED) => BmcError::NoAnswer(self.name.clone()),
            CommandError::Os(error) => BmcError::Io(self.name.clone(), io::Error::from_raw_os_error(error)),
        }
    }
}
