//! The running machine: the host orders, the guest's agent (`guest/debian/agent`) does. They share a folder, which
//! outlives crashes and full disks.
//!
//! No limit is on how long something takes, but on how long nothing at all happens: no line on the console, nothing
//! printed by what was ordered.

use crate::machine::console::{Line, tail};
use crate::machine::debian::Image;
use crate::machine::monitor::Monitor;
use crate::machine::qemu::{self, Vm};
use crate::machine::{packages, process};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long nothing may happen. For machines that hang: no test is about this time.
const SILENCE: Duration = Duration::from_secs(900);

/// When a machine is ended, whatever it does.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// What Linux is told of a CPU that is emulated, on a host that may be busy: what it measures of its timers at boot would
/// make it panic, now and then. The dump kernel is told the same.
const EMULATED: &str = "mitigations=off nmi_watchdog=0 no_timer_check tsc=reliable cryptomgr.notests";

/// What is booted.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its RAM disk.
    pub initrd: PathBuf,
    /// Memory that is reserved for the dump kernel, as `crashkernel=` has it.
    pub reserved: String,
}

/// A running Debian, on a disk of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Debian {
    folder: TempDir,
    boot: Boot,
    vm: Vm,
    id: String,
    /// Everything that was on the console.
    pub console: Vec<Line>,
}

impl Debian {
    /// Boots a new one from the image, and waits until it is up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(image: &Image) -> Result<Self> {
        packages::install()?;
        let folder = tempfile::Builder::new().prefix("lastwords-debian-").tempdir()?;
        fs::create_dir(folder.path().join("share"))?;
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(&image.disk);
        process::output(create.arg(folder.path().join("disk")))?;
        let boot =
            Boot { kernel: image.kernel.clone(), initrd: image.initrd.clone(), reserved: "256M".to_owned() };
        let vm = start(folder.path(), &boot)?;
        let mut debian = Self { folder, boot, vm, id: String::new(), console: Vec::new() };
        debian.come_up()?;
        Ok(debian)
    }

    /// The folder that host and guest share: `/share` in the guest.
    #[must_use]
    pub fn share(&self) -> PathBuf {
        self.folder.path().join("share")
    }

    /// Runs a script of bash's, and returns what it printed and its exit status.
    ///
    /// # Errors
    /// When the machine does not run it to its end.
    pub fn try_run(&mut self, script: &str) -> Result<(i32, String)> {
        self.order(script)?;
        let (status, printed) = (self.share().join("status"), self.share().join("printed"));
        self.wait(|_| status.exists())?;
        let status = fs::read_to_string(&status)?.trim().parse().context("no exit status")?;
        let printed = String::from_utf8_lossy(&fs::read(&printed)?).into_owned();
        println!("bench: {script}\nbench: exit status {status}\n{printed}");
        Ok((status, printed))
    }

    /// Runs a script of bash's that must not fail, and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&mut self, script: &str) -> Result<String> {
        let (status, printed) = self.try_run(script)?;
        ensure!(status == 0, "{script}: exit status {status}: {printed}");
        Ok(printed)
    }

    /// Copies a file of the guest's to the host.
    ///
    /// # Errors
    /// When there is none.
    pub fn fetch(&mut self, path: &str) -> Result<PathBuf> {
        let name = Path::new(path).file_name().context("a file has a name")?.to_owned();
        self.run(&format!("cp '{path}' /share/"))?;
        Ok(self.share().join(name))
    }

    /// Kills the kernel by this command, and waits until the machine is up again. Returns the console's lines from
    /// then on.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn crash(&mut self, command: &str) -> Result<Vec<Line>> {
        let before = self.console.len();
        // What a test has installed is on the disk by then, as it is where a crash comes days later.
        self.run("sync")?;
        self.order(command)?;
        self.come_up()?;
        Ok(self.console[before..].to_vec())
    }

    /// Shuts down and boots anew.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn reboot(&mut self) -> Result<()> {
        self.order("systemctl reboot")?;
        self.come_up()
    }

    /// Waits until a machine that is on its way to boot is up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn come_up(&mut self) -> Result<()> {
        let up = self.share().join("up");
        self.wait(|debian| fs::read_to_string(&up).is_ok_and(|id| id != debian.id))?;
        self.id = fs::read_to_string(&up)?;
        // Failed units are for the test to judge.
        self.try_run("systemctl is-system-running --wait; systemctl --failed --no-legend")?;
        Ok(())
    }

    /// Shuts down, and boots the kernel of this version from `/boot`, as a boot loader would. The BMC is a new one.
    ///
    /// # Errors
    /// When there is no such kernel, or it does not come up.
    pub fn reboot_into(&mut self, version: &str) -> Result<()> {
        self.boot.kernel = self.fetch(&format!("/boot/vmlinuz-{version}"))?;
        self.boot.initrd = self.fetch(&format!("/boot/initrd.img-{version}"))?;
        self.order("systemctl poweroff")?;
        while let Some(line) = self.vm.next_line()? {
            self.keep(line);
        }
        self.vm = start(self.folder.path(), &self.boot)?;
        self.come_up()
    }

    /// QEMU's monitor.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn monitor(&self) -> Result<Monitor> {
        self.vm.monitor()
    }

    fn order(&self, script: &str) -> Result<()> {
        let share = self.share();
        for old in ["status", "printed"] {
            let _ = fs::remove_file(share.join(old));
        }
        fs::write(share.join(".order"), format!("{script}\n"))?;
        Ok(fs::rename(share.join(".order"), share.join("order"))?)
    }

    /// Waits for something, as long as anything at all happens.
    fn wait(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        let printed = self.share().join("printed");
        let size = || fs::metadata(&printed).map_or(0, |metadata| metadata.len());
        let (mut last, mut seen) = (Instant::now(), size());
        while !done(self) {
            match self.vm.line_within(Duration::from_millis(100)) {
                Ok(Some(line)) => {
                    self.keep(line);
                    last = Instant::now();
                }
                Ok(None) if size() != seen => (last, seen) = (Instant::now(), size()),
                Ok(None) if last.elapsed() > SILENCE => {
                    let printed = fs::read(&printed).unwrap_or_default();
                    let printed = String::from_utf8_lossy(&printed);
                    bail!("nothing happens any more; the order's output: {printed}\n{}", tail(&self.console))
                }
                Ok(None) => {}
                Err(error) => return Err(error.context(tail(&self.console))),
            }
        }
        Ok(())
    }

    fn keep(&mut self, line: Line) {
        println!("{:8.3} {}", line.at.as_secs_f64(), line.text);
        self.console.push(line);
    }
}

fn start(folder: &Path, boot: &Boot) -> Result<Vm> {
    let mut qemu = qemu::command();
    qemu.current_dir(folder)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"])
        .args(["-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max,la57=off,erms=off"])
        .args(["-smp", "2", "-m", "1024M", "-serial", "stdio", "-qmp", "unix:qmp,server=on,wait=off"])
        .args(["-drive", "file=disk,format=qcow2,if=virtio,cache=unsafe"])
        .args(["-virtfs", "local,path=share,mount_tag=share,security_model=none"])
        .args(["-device", "ipmi-bmc-sim,id=bmc0", "-device", "isa-ipmi-kcs,bmc=bmc0"])
        .arg("-kernel")
        .arg(&boot.kernel)
        .arg("-initrd")
        .arg(&boot.initrd)
        .arg("-append")
        .arg(format!("root=/dev/vda rw console=ttyS0 crashkernel={} {EMULATED}", boot.reserved));
    Vm::run(qemu, folder, LIMIT)
}
