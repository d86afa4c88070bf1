//! Real Debian machines, from the package's installation to the boot after the crash.

use anyhow::{Result, ensure};
use lastwords_vm::machine::debian::{Debian, Image, Suite};

#[test]
fn plain_kdump_dumps_debian_12() -> Result<()> {
    let mut debian = Debian::boot(&Image::get(Suite::Bookworm)?)?;
    debian.run("cat /sys/kernel/kexec_crash_loaded /var/crash/kexec_cmd; ls -l /var/lib/kdump")?;
    let console = debian.crash("echo c > /proc/sysrq-trigger")?;
    let kernels = console.iter().filter(|line| line.text.contains("] Linux version")).count();
    ensure!(kernels == 2, "{kernels} kernels have booted");
    debian.run(
        "find /var/crash -type f | xargs ls -l; ipmitool sel list; uptime; systemd-analyze blame | head -20",
    )?;
    Ok(())
}
