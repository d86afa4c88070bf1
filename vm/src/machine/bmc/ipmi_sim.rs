//! OpenIPMI's ipmi_sim: a BMC that others have made, with a LAN side of its own.

use crate::machine::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A running ipmi_sim. It ends when this is dropped.
#[derive(Debug)]
pub struct IpmiSim {
    child: Child,
    lan: u16,
    vm: u16,
}

impl IpmiSim {
    /// Starts one on free ports of the loopback address, with its files in this folder.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(folder: &Path) -> Result<Self> {
        // Another program may take a port between our look and ipmi_sim's: then it ends at once, and we look again.
        let mut last = None;
        for _ in 0..5 {
            match Self::try_start(folder) {
                Ok(bmc) => return Ok(bmc),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("ipmi_sim was not started")?)
    }

    fn try_start(folder: &Path) -> Result<Self> {
        let lan = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let vm = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (config, commands) = (folder.join("lan.conf"), folder.join("bmc.emu"));
        let auths = ["callback", "user", "operator", "admin"]
            .map(|privilege| format!("    allowed_auths_{privilege} none md2 md5 straight\n"))
            .concat();
        fs::write(
            &config,
            format!(
                "name \"bench\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {lan}\n    priv_limit admin\n\
                 {auths}    guid 6c617374776f72647320206f6e206461\n  endlan\n  serial 15 127.0.0.1 {vm} codec VM\n  \
                 user 2 true \"{USER}\" \"{PASSWORD}\" admin 10\n"
            ),
        )?;
        // Address, device id, device SDRs, revision, firmware, what it has (SEL among it), maker, product.
        fs::write(
            &commands,
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\n\
             sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n",
        )?;
        let log = fs::File::create(folder.join("ipmi_sim.log"))?;
        let child = Command::new("ipmi_sim")
            .args(["--nostdio", "--nopersist", "--state-dir"])
            .arg(folder.join("state"))
            .arg("--config-file")
            .arg(config)
            .arg("--command-file")
            .arg(commands)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start ipmi_sim: is openipmi installed?")?;
        let mut bmc = Self { child, lan, vm };
        let started = Instant::now();
        loop {
            if let Some(status) = bmc.child.try_wait()? {
                let log = fs::read_to_string(folder.join("ipmi_sim.log")).unwrap_or_default();
                bail!("ipmi_sim ended ({status}): {}", log.trim());
            }
            match bmc.ipmitool(&["mc", "info"]) {
                Ok(_) => return Ok(bmc),
                Err(error) if started.elapsed() > Duration::from_secs(30) => {
                    return Err(error.context("ipmi_sim does not answer"));
                }
                Err(_) => sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Where QEMU finds it.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("host=127.0.0.1,port={}", self.vm)
    }

    /// What ipmitool prints for a command, asked over the LAN as an administrator would from another machine.
    ///
    /// # Errors
    /// When the BMC does not answer or refuses.
    pub fn ipmitool(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("ipmitool");
        command.args(["-I", "lanplus", "-H", "127.0.0.1", "-U", USER, "-P", PASSWORD, "-C", "3"]);
        command.args(["-N", "2", "-R", "2", "-p", &self.lan.to_string()]).args(arguments);
        process::text(&mut command)
    }

    /// The LAN side's UDP port.
    #[must_use]
    pub fn lan_port(&self) -> u16 {
        self.lan
    }
}

/// The administrator's name and password on the LAN side.
pub const USER: &str = "admin";
/// See [`USER`].
pub const PASSWORD: &str = "lastwords";

impl Drop for IpmiSim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
