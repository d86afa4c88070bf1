//! Real Debian machines, from the package's installation to the boots after the crashes: what the distribution's own
//! services do with lastwords, and without it when it is gone.
//!
//! What holds at each step is judged by others: kexec's command line and the loaded file's own header against `uname -r`,
//! the kernels that boot on the console, makedumpfile on the dump, ipmitool on the SEL.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::watchdog::Watchdog;
use lastwords_vm::machine::debian::{Debian, Image, Suite, second_kernel};
use lastwords_vm::scenarios::debian::{
    Crash, crash, enable, installed, loaded, login, plain_is_loaded, running, told, wrapped_is_loaded,
};
use std::fs;

/// Longer than a dump and a boot take on a busy machine.
const WATCHDOG: u32 = 900;

/// The next boot tells of this crash: in the journal, to who logs in, in `list` and `read`.
fn next_boot_tells(debian: &mut Debian, crash: &Crash) -> Result<()> {
    let said = crash.reported()?;
    let id = said.crash_id.as_deref().context("the SEL has no crash id")?;
    // The unit is started by udev, beside the boot.
    debian.run(
        "systemctl is-active --quiet lastwords-report.service || systemctl start lastwords-report.service",
    )?;
    let told = told(debian)?;
    let [entry] = &told[..] else { anyhow::bail!("the journal has {} entries: {told:?}", told.len()) };
    let field = |name: &str| entry[name].as_str().unwrap_or_default();
    ensure!(field("LASTWORDS_CRASH_ID") == id, "{id} in the SEL, {entry} in the journal");
    ensure!(field("MESSAGE_ID").len() == 32 && field("PRIORITY") == "0", "{entry}");
    ensure!(field("LASTWORDS_REASON").contains("sysrq triggered crash"), "{entry}");
    let build = said.id.as_deref().context("the SEL has no build id")?;
    ensure!(field("LASTWORDS_BUILD_ID").starts_with(build), "{build} in the SEL, {entry} in the journal");
    let watchdog = Watchdog::parse(&debian.run("ipmitool mc watchdog get")?)?;
    ensure!(watchdog.is_stopped(), "{watchdog:?}");
    let login = login(debian)?;
    ensure!(login.contains("sysrq triggered crash"), "who logs in sees {login}");
    for command in ["lastwords list", "lastwords read"] {
        let shown = debian.run(command)?;
        ensure!(shown.contains("sysrq triggered crash"), "{command}: {shown}");
    }
    let list = debian.run("lastwords list --json")?;
    ensure!(list.contains(id) && list.contains("/var/crash/"), "{list}");
    Ok(())
}

/// Ready by its own account, and by what is loaded.
fn ready(debian: &mut Debian) -> Result<()> {
    let status = debian.run("lastwords status")?;
    ensure!(status.starts_with("READY"), "{status}");
    wrapped_is_loaded(debian)
}

#[test]
fn an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot() -> Result<()> {
    let mut debian = installed(Suite::Bookworm)?;
    plain_is_loaded(&mut debian)?;
    enable(&mut debian, WATCHDOG)?;
    ready(&mut debian)?;
    let crash = crash(&mut debian)?;
    next_boot_tells(&mut debian, &crash)?;
    ready(&mut debian)?;
    debian.run("lastwords list --seen")?;
    ensure!(!login(&mut debian)?.contains("sysrq triggered crash"));
    Ok(())
}

/// Years of a server: every kernel that runs is the one that is loaded, and what is removed leaves plain kdump.
fn lives_on(suite: Suite) -> Result<()> {
    let mut debian = installed(suite)?;
    enable(&mut debian, WATCHDOG)?;
    ready(&mut debian)?;
    let first = running(&mut debian)?;
    next_boot_tells_of_a_crash(&mut debian)?;

    // Another kernel.
    install_second_kernel(&mut debian, suite)?;
    ready(&mut debian)?;
    let second = debian.run("ls /boot | sed -n 's/^vmlinuz-//p'")?;
    let second = second.lines().find(|version| *version != first).context("no second kernel")?.to_owned();
    debian.reboot_into(&second)?;
    ensure!(running(&mut debian)? == second);
    ready(&mut debian)?;
    next_boot_tells_of_a_crash(&mut debian)?;

    // The first one goes, as autoremove does it.
    let purge = |package: &str| format!("DEBIAN_FRONTEND=noninteractive apt-get purge --yes {package} 2>&1");
    debian.run(&purge(&format!("linux-image-amd64 linux-image-{first}")))?;
    debian.run(&format!("! ls /boot/*{first} /var/lib/kdump/lastwords/*{first}* 2>/dev/null"))?;
    ready(&mut debian)?;
    debian.run("kdump-config reload")?;
    ready(&mut debian)?;
    next_boot_tells_of_a_crash(&mut debian)?;

    debian.run("lastwords disable")?;
    plain_is_loaded(&mut debian)?;
    unreported_crash(&mut debian)?;

    debian.run("lastwords enable")?;
    ready(&mut debian)?;
    debian.run(&purge("lastwords"))?;
    plain_is_loaded(&mut debian)?;
    unreported_crash(&mut debian)?;
    plain_is_loaded(&mut debian)
}

fn next_boot_tells_of_a_crash(debian: &mut Debian) -> Result<()> {
    let crash = crash(debian)?;
    next_boot_tells(debian, &crash)?;
    debian.run("lastwords list --seen; systemctl --failed --no-legend")?;
    Ok(())
}

/// A crash that is dumped as without lastwords: nothing new in the SEL.
fn unreported_crash(debian: &mut Debian) -> Result<()> {
    debian.run("ipmitool sel clear")?;
    let crash = crash(debian)?;
    ensure!(crash.said.is_none() && !crash.sel.iter().any(|text| text.contains("dump ")), "{:?}", crash.sel);
    ensure!(told(debian)?.is_empty());
    Ok(())
}

fn install_second_kernel(debian: &mut Debian, suite: Suite) -> Result<()> {
    for entry in fs::read_dir(second_kernel(suite)?)? {
        let path = entry?.path();
        fs::copy(&path, debian.share().join(path.file_name().context("a package has a name")?))?;
    }
    debian.run("DEBIAN_FRONTEND=noninteractive dpkg --install /share/linux-image-*.deb 2>&1")?;
    Ok(())
}

#[test]
#[ignore = "make test-all: an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot has one crash of these"]
fn a_debian_12_lives_through_kernel_upgrades_disable_and_purge() -> Result<()> {
    lives_on(Suite::Bookworm)
}

#[test]
#[ignore = "make test-all: an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot has one crash of these"]
fn a_debian_13_lives_through_kernel_upgrades_disable_and_purge() -> Result<()> {
    lives_on(Suite::Trixie)
}

/// Where this fails, the other tests show nothing.
fn plain_kdump_dumps(suite: Suite) -> Result<()> {
    let mut debian = Debian::boot(&Image::get(suite)?)?;
    ensure!(loaded(&mut debian)?.plain);
    let crash = crash(&mut debian)?;
    ensure!(crash.said.is_none() && crash.reported().is_err());
    Ok(())
}

#[test]
#[ignore = "make test-all: an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot shows a dump, too"]
fn plain_kdump_dumps_debian_12() -> Result<()> {
    plain_kdump_dumps(Suite::Bookworm)
}

#[test]
#[ignore = "make test-all: an_enabled_debian_12_reports_dumps_and_tells_at_the_next_boot shows a dump, too"]
fn plain_kdump_dumps_debian_13() -> Result<()> {
    plain_kdump_dumps(Suite::Trixie)
}
