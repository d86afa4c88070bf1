//! Talking to the BMC from a running system: through the kernel's driver, through its registers at I/O ports where there is
//! no driver, or over the LAN. What is asked, and when a BMC is asked again or given up, is core's (`lastwords_core::ipmi`);
//! here are the transports, and what takes several commands (`sel`).
//!
//! Every command ends: at its own time limit, and at the deadline of the whole conversation where one is set.

mod device;
pub mod discovery;
mod error;
#[cfg(test)]
mod fake;
mod lan;
mod local;
mod ports;
pub mod redfish;
mod remote;
mod sel;
mod system;

pub use device::wait;
pub use error::BmcError;
#[cfg(test)]
pub use fake::Fake;
#[cfg(test)]
pub use lan::simulated::Lan;
pub use lan::{Host, Login};
pub use local::{Local, PARAMETERS, named, named_interface};
pub use remote::Remote;
pub use sel::{Enough, Entry, SelList, is_same, names_one};
pub use system::System;

use crate::arm::registers::Owners;
use discovery::Found;
use lastwords_core::{
    budget::{Millis, Timer},
    hw::Register,
    ipmi::{
        Bmc, CommandError, TransferError, Transport,
        commands::{AddSelEntry, Command, Event, ResetWatchdogTimer, SetWatchdogTimer},
        interface::{Interface, KcsPorts, SystemInterface},
        message::{CompletionCode, REQUEST_LEN, Request},
        sel_writer::{SelType, SelWriter},
    },
    report::Stage,
    store::sel::Sel,
};
use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Longest wait for one answer. OpenBMC itself gives a request up after 5 s.
const TIMEOUT: Millis = 10_000;

/// What a bus without anybody on it reads as.
const NOBODY: u8 = 0xff;

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

/// A BMC that can be asked.
pub struct Connection {
    bmc: Bmc<AnyTransport>,
    system: System,
    timer: Timer,
    name: String,
    progress: Option<Progress>,
}

/// Is told of each record that was read: how many there are so far, and of how many, where that is known.
pub type Progress = Box<dyn FnMut(usize, Option<u16>) + Send>;

impl Connection {
    /// This machine's own, through the interface that is named: by its driver's device where one serves it, else at its
    /// registers, whatever other interface a driver serves. Where none is named, as [`Connection::among`] those that
    /// discovery finds.
    ///
    /// # Errors
    /// As [`Connection::device`], [`Connection::at`] and [`Connection::among`].
    pub fn local(root: &Path, named: Option<Interface>) -> Result<Self, BmcError> {
        let Some(interface) = named else {
            let mut found = discovery::interfaces(root);
            if !driver_device(root).exists() {
                discovery::ask(root, &mut found);
            }
            return Self::among(root, &found);
        };
        match discovery::device(root, interface) {
            Some(device) if device.exists() => Self::device(&device),
            _ => Self::at(root, interface),
        }
    }

    /// This machine's own: through /dev/ipmi0 when it is there, else through the best of these interfaces. A BMC that would
    /// have to be guessed is not written to.
    ///
    /// # Errors
    /// [`BmcError::NotFound`] without a register written, else as [`Connection::device`] and [`Connection::at`].
    pub fn among(root: &Path, found: &[Found]) -> Result<Self, BmcError> {
        let device = driver_device(root);
        if device.exists() {
            return Self::device(&device);
        }
        match discovery::best(found) {
            Some((_, interface)) => Self::at(root, interface),
            None => Err(BmcError::NotFound(
                found.first().map_or_else(|| glance(root), |found| format!("{found} is all there is")),
            )),
        }
    }

    /// The one behind the kernel's driver.
    ///
    /// # Errors
    /// [`BmcError::Open`], [`BmcError::Permission`].
    pub fn device(path: &Path) -> Result<Self, BmcError> {
        Ok(Self::new(device::Device::open(path)?, path.display().to_string()))
    }

    /// The one behind these registers.
    ///
    /// # Errors
    /// [`BmcError::OnSmbus`], [`BmcError::Stranger`], [`BmcError::InMemory`], [`BmcError::DriverHasPorts`],
    /// [`BmcError::Permission`], [`BmcError::NoPorts`]. Whether a BMC is there shows in the first command.
    pub fn at(root: &Path, interface: Interface) -> Result<Self, BmcError> {
        let name = match interface {
            Interface::Kcs(ports) => format!("KCS ports {ports}"),
            Interface::Bt(ports) => format!("BT ports from {ports}"),
            Interface::Ssif(_) => return Err(BmcError::OnSmbus(interface)),
        };
        if let Some(stranger) = Owners::read(root).stranger_at(interface) {
            return Err(BmcError::Stranger(stranger));
        }
        let system = System::new(Some(ports::Ports::open(root, interface.registers())?));
        Ok(Self::of(system, SystemInterface::new(Some(interface)), name, TIMEOUT))
    }

    /// The one at this host, over the LAN, at privilege level User: enough to read. After so much time from now every command
    /// fails at once.
    ///
    /// # Errors
    /// [`BmcError::NoAnswer`], [`BmcError::NoSession`], [`BmcError::NoSuite`], [`BmcError::Only15`], [`BmcError::Login`],
    /// [`BmcError::Kg`], [`BmcError::Io`].
    pub fn lan(host: &Host, login: &Login, limit: Duration) -> Result<Self, BmcError> {
        Self::opened(System::new(None), host.to_string(), limit, || lan::open(host, login, limit))
    }

    /// The one to which `open` opens a session, which is part of the time.
    fn opened<T: Transport<System> + Send + 'static>(
        mut system: System,
        name: impl Into<String>,
        limit: Duration,
        open: impl FnOnce() -> Result<T, BmcError>,
    ) -> Result<Self, BmcError> {
        let timer = system.timer(Some(limit));
        let session = open()?;
        Ok(Self { timer, ..Self::of(system, session, name, lan::TIMEOUT) })
    }

    /// The one behind this transport, with this name in errors and reports.
    pub fn new(transport: impl Transport<System> + Send + 'static, name: impl Into<String>) -> Self {
        Self::of(System::new(None), transport, name, TIMEOUT)
    }

    fn of(
        mut system: System,
        transport: impl Transport<System> + Send + 'static,
        name: impl Into<String>,
        timeout: Millis,
    ) -> Self {
        let timer = system.timer(None);
        let bmc = Bmc::new(AnyTransport(Box::new(transport)), timeout);
        Self { bmc, system, timer, name: name.into(), progress: None }
    }

    /// Through what it is reached: `/dev/ipmi0`, `KCS ports 0xca2,0xca3`, `BT ports from 0xe4`, `host:623`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// After so much time from now every command fails at once.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.timer = self.system.timer(Some(limit));
        self
    }

    /// Tells somebody how far reading the SEL has come.
    pub fn on_progress(&mut self, progress: Progress) {
        self.progress = Some(progress);
    }

    /// Lets so much time pass, but not more than there is.
    fn pause(&mut self, pause: Millis) {
        self.timer.pause(&mut self.system, pause);
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
            CommandError::Absent | CommandError::Unnamed(_) => BmcError::Absent(self.name.clone()),
            CommandError::Silent | CommandError::NoTime => BmcError::Silent(command),
            CommandError::Garbled => BmcError::Garbled(command),
            CommandError::Refused(code) => BmcError::Refused(command, code),
            // A machine is there, but nobody listens any more.
            CommandError::Os(libc::ECONNREFUSED) => BmcError::NoAnswer(self.name.clone()),
            CommandError::Os(error) => BmcError::Io(self.name.clone(), io::Error::from_raw_os_error(error)),
        }
    }
}

/// The device of the kernel's driver for the first BMC interface that it serves.
#[must_use]
pub fn driver_device(root: &Path) -> PathBuf {
    root.join("dev/ipmi0")
}

/// Whether somebody is at an interface, as far as can be seen without a word to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The driver speaks to it, its status register shows somebody, or reads as what this process may not read.
    Somebody,
    /// Nobody can look: the SMBus takes a read for a claim, and registers in memory are the driver's.
    Unseen,
    /// Why nobody can be there.
    Nobody(String),
}

/// Is somebody there? One status register is read at most.
pub fn presence(root: &Path, interface: Interface) -> Presence {
    if discovery::is_driven(root, interface) {
        return Presence::Somebody;
    }
    if let Some(stranger) = Owners::read(root).stranger_at(interface) {
        return Presence::Nobody(stranger);
    }
    match (interface, interface.status()) {
        (Interface::Ssif(controller), _) if !discovery::smbus::is_at(root, controller.port) => {
            Presence::Nobody(format!("no i801 has its ports at {:#x} (PCI)", controller.port))
        }
        (Interface::Ssif(_), _) | (_, Register::Memory(_)) => Presence::Unseen,
        (_, status) if look(root, interface) == Some(NOBODY) => {
            Presence::Nobody(format!("port {status} reads 0xff: nobody answers there"))
        }
        _ => Presence::Somebody,
    }
}

/// What the interface's status register reads, where it is at an I/O port that can be read and no driver has.
fn look(root: &Path, interface: Interface) -> Option<u8> {
    let status = interface.status();
    let ports = ports::Ports::open(root, [status]).ok()?;
    match (interface, status) {
        (Interface::Kcs(_) | Interface::Bt(_), Register::Port(port)) => ports.get(port),
        _ => None,
    }
}

/// What one read of the usual status register shows, where nobody knows of a BMC. Nothing is written.
fn glance(root: &Path) -> String {
    let (kcs, status) = (Interface::Kcs(KcsPorts::DEFAULT), KcsPorts::DEFAULT.status);
    let tables = "SMBIOS, ACPI and PCI have none";
    match look(root, kcs) {
        None => tables.to_owned(),
        Some(NOBODY) => format!("{tables}, and port {status} reads 0xff, nobody answers there"),
        Some(value) => {
            format!(
                "{tables}; port {status} reads {value:#04x}, so that --ipmi-interface {kcs} may reach one"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discovery::tests::Root;
    use lastwords_core::ipmi::commands::GetDeviceId;

    fn error(root: &Root, interface: Option<Interface>) -> String {
        match Connection::local(root.path(), interface) {
            Err(error) => error.to_string(),
            Ok(mut bmc) => bmc.send(&GetDeviceId).unwrap_err().to_string(),
        }
    }

    #[test]
    fn where_no_bmc_is_known_one_register_is_read_and_none_is_written() {
        let root = Root::new();
        assert!(
            error(&root, None)
                .starts_with("no BMC interface was found: SMBIOS, ACPI and PCI have none; /dev/ipmi0")
        );
        for (byte, says) in [
            (0xff, "port 0xca3 reads 0xff, nobody"),
            (0x40, "port 0xca3 reads 0x40, so that --ipmi-interface kcs:0xca2,0xca3"),
        ] {
            let ports = vec![byte; 0x1_0000];
            root.write("dev/port", &ports);
            let text = error(&root, None);
            assert!(text.contains(says), "{text}");
            assert!(std::fs::read(root.path().join("dev/port")).unwrap() == ports);
        }
    }

    #[test]
    fn one_that_cannot_be_used_is_named_and_nothing_is_written_in_its_place() {
        let root = Root::new();
        let ports = vec![0x40; 0x1_0000];
        root.write("dev/port", &ports);
        root.write("sys/firmware/acpi/tables/SPMI", {
            let mut table = discovery::tests::spmi_table(4, 8, 0x84);
            table[36] = 4;
            table
        });
        let text = error(&root, None);
        assert!(text.contains("SSIF at SMBus address 0x42, from ACPI SPMI (not usable: "), "{text}");
        // On the right controller it is the driver's all the same.
        root.i801("0000:00:1f.3", 0x700);
        let text = error(&root, None);
        assert!(
            text.contains("(ssif:i801:0x700,0x42)") && text.contains("modprobe -a i2c_i801 ipmi_ssif"),
            "{text}"
        );
        assert!(std::fs::read(root.path().join("dev/port")).unwrap() == ports);
    }

    #[test]
    fn a_named_interface_is_asked_itself_and_by_its_own_driver() {
        let root = Root::new();
        let opened = |value| {
            let opened = Connection::local(root.path(), Some(Interface::parse(value).unwrap()));
            opened.map(|bmc| bmc.name().to_owned()).map_err(|error| error.to_string())
        };
        root.write("dev/port", vec![0xff; 0x1_0000]);
        for (number, params) in [(0, "kcs,i/o,0xca2,rsp=1"), (1, "bt,i/o,0xe4,rsp=1")] {
            let device = format!("sys/devices/platform/dmi-ipmi-si.{number}");
            root.write(&format!("{device}/params"), params);
            root.link(&format!("sys/class/ipmi/ipmi{number}/device"), &device);
            root.write(&format!("dev/ipmi{number}"), "");
        }
        let [first, second] = [0, 1].map(|number| root.path().join(format!("dev/ipmi{number}")));
        // These are no devices, but that shows which was opened.
        let is = |path: &Path, opened: Result<String, String>| {
            let (Ok(text) | Err(text)) = opened;
            assert!(text.contains(&path.display().to_string()), "{text}");
        };
        is(&first, opened("kcs:0xca2"));
        is(&second, opened("bt:0xe4"));
        assert_eq!(opened("kcs:0xca8").as_deref(), Ok("KCS ports 0xca8,0xca9"));
        assert!(opened("ssif:i801:0x700,0x42").unwrap_err().contains("only the ipmi_ssif driver"));
        root.write("proc/ioports", "0cac-0caf : iTCO_wdt\n");
        assert!(opened("kcs:0xca8,0xcac").unwrap_err().starts_with("I/O port 0xcac belongs to iTCO_wdt"));
    }

    #[test]
    fn nobody_is_where_a_port_reads_0xff_or_another_device_is_and_a_driver_tells_that_somebody_is() {
        use Presence::{Nobody, Somebody, Unseen};
        let root = Root::new();
        let at = |value| presence(root.path(), Interface::parse(value).unwrap());
        let why = |value| match at(value) {
            Nobody(why) => why,
            other => panic!("{value}: {other:?}"),
        };
        // Without ports nothing speaks against it.
        assert_eq!([at("kcs:0xca2"), at("bt:0xe4")], [Somebody, Somebody]);
        let mut ports = vec![0xff; 0x1_0000];
        ports[0xca3] = 0;
        root.write("dev/port", &ports);
        root.write("proc/ioports", "0cf0-0cf7 : iTCO_wdt\n");
        assert_eq!([at("kcs:0xca2"), at("kcs:mmio:0xfe000000")], [Somebody, Unseen]);
        assert_eq!(why("bt:0xe4"), "port 0xe4 reads 0xff: nobody answers there");
        assert!(why("kcs:0xcf0").contains("belongs to iTCO_wdt"));
        // The SMBus controller is not even read.
        assert!(why("ssif:i801:0x700,0x42").contains("no i801"));
        root.i801("0000:00:1f.3", 0x700);
        assert_eq!(at("ssif:i801:0x700,0x42"), Unseen);
        root.write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", "bt,i/o,0xe4,rsp=1");
        assert_eq!(at("bt:0xe4"), Somebody);
    }

    #[test]
    fn nobody_at_a_named_interface_is_an_error_that_names_it() {
        let root = Root::new();
        root.write("dev/port", vec![0xff; 0x1_0000]);
        let text = error(&root, Some(Interface::Kcs(KcsPorts::DEFAULT)));
        assert!(text.starts_with("no BMC answers at KCS ports 0xca2,0xca3\nhint: modprobe"), "{text}");
    }
}
