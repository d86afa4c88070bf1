//! Snapshots: a machine whose first kernel is up and waits for its orders, kept in a file from which any number of
//! machines go on. More than half of a test's time used to lie before that.
//!
//! Made by QEMU's migration. What a machine was made of is in the file's name; the BMC at the other end of a socket,
//! the debugger, the orders and ttyS1 are not the machine's, and are others in each run. A snapshot is good for one
//! boot of the host: a guest's TSC is the host's, whose frequency it has measured, and its addresses should be drawn
//! anew now and then.

use crate::machine::cache;
use crate::machine::console::{Line, tail};
use crate::machine::monitor::Monitor;
use crate::machine::orders;
use crate::machine::process;
use crate::machine::qemu::{Connections, Machine, PROGRAM, Vm};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

const PREFIX: &str = "snapshot-";
/// How many of those that tests made are kept, those used last: each has 140 MB, and a run makes 40 of them.
const KEPT: usize = 16;
/// A snapshot that was wanted so recently may not have been opened yet.
const FRESH: Duration = Duration::from_secs(120);
/// The name of a state on a disk of states.
const STATE: &str = "state";

/// The snapshot of this machine, made when there is none.
///
/// # Errors
/// When the machine does not come so far.
pub fn get(machine: &Machine) -> Result<PathBuf> {
    let path = cache::entry(&name(&format!("{:016x}", key(machine)?))?, |path| {
        let of_this_boot = name("")?;
        remove(|name| !name.starts_with(&of_this_boot))?;
        prune(&cache::target()?.join("vm"))?;
        make(machine, path)
    })?;
    // So that those used last are known. Another test may have removed it since.
    let used = File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
    if used.is_err() {
        return get(machine);
    }
    Ok(path)
}

/// Removes the snapshots that were not used for longest.
fn prune(folder: &Path) -> Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found.push((metadata.modified()?, entry.path()));
        }
    }
    found.sort();
    let too_many = found.len().saturating_sub(KEPT);
    for (used, path) in found.into_iter().take(too_many) {
        if used.elapsed().is_ok_and(|since| since > FRESH) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The name of a file, or a folder of files, that is as short-lived as a snapshot.
///
/// # Errors
/// When the host's boot has no name.
pub fn name(of: &str) -> Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{PREFIX}{}-{of}", boot.get(..8).context("the host's boot has no name")?))
}

/// A disk on which QEMU keeps the whole state of a machine that runs, for [`keep`] and [`put_back`].
///
/// # Errors
/// When qemu-img is missing.
pub fn disk(path: &Path) -> Result<()> {
    process::output(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(path).arg("1M"))?;
    Ok(())
}

/// QEMU's options for such a disk, which the guest does not see.
#[must_use]
pub fn disk_options(path: &Path) -> [String; 2] {
    let disk = format!("if=none,id=states,format=qcow2,cache=unsafe,file={}", path.display());
    ["-drive".to_owned(), disk]
}

/// Keeps the state that the machine is in.
///
/// # Errors
/// When QEMU refuses.
pub fn keep(monitor: &mut Monitor) -> Result<()> {
    monitor.order(&format!("savevm {STATE}"))
}

/// Puts a machine that stands still into the state that was kept.
///
/// # Errors
/// When QEMU refuses.
pub fn put_back(monitor: &mut Monitor) -> Result<()> {
    if monitor.execute("query-status", &json!({}))?["status"] == "shutdown" {
        // QEMU lets no machine go on that is off, whatever is loaded into it.
        monitor.execute("set-action", &json!({ "reboot": "reset" }))?;
        monitor.execute("system_reset", &json!({}))?;
        while monitor.execute("query-status", &json!({}))?["status"] == "shutdown" {
            thread::sleep(Duration::from_millis(1));
        }
        monitor.execute("set-action", &json!({ "reboot": "shutdown" }))?;
    }
    monitor.order(&format!("loadvm {STATE}"))
}

/// Everything that goes into it.
fn key(machine: &Machine) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    process::output(Command::new(PROGRAM).arg("--version"))?.hash(&mut hasher);
    machine.options().hash(&mut hasher);
    include_str!("snapshot.rs").hash(&mut hasher);
    for file in [&machine.kernel, &machine.initrd] {
        let metadata = fs::metadata(file)?;
        (metadata.len(), metadata.modified()?).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Removes snapshots by their name. Those of other boots of the host, and of other builds: they are large, and nobody can
/// use them.
///
/// # Errors
/// When one cannot be removed.
pub fn remove(which: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(cache::target()?.join("vm"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Not the lock of the one that is being made, which has the same name.
        if !name.starts_with(PREFIX) || !which(&name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Boots the machine until it waits, and writes its state to the file.
fn make(machine: &Machine, path: &Path) -> Result<()> {
    // In /tmp: a socket's path must be short.
    let folder = tempfile::Builder::new().prefix("lastwords-vm-").tempdir()?;
    let connections = Connections {
        orders: orders::none(folder.path())?,
        // Nobody is there: QEMU looks again and again, and the guest does not ask before it has its orders.
        bmc: Some(format!("path={}", folder.path().join("bmc").display())),
        debugger: None,
        snapshot: None,
        console: None,
        options: Vec::new(),
        limit: Duration::from_secs(300),
        folder: folder.path().to_owned(),
    };
    let mut vm = Vm::start(machine, &connections)?;
    let mut console = Vec::new();
    while !console.last().is_some_and(|line: &Line| line.text.contains(orders::WAITS)) {
        match vm.next_line() {
            Ok(Some(line)) => console.push(line),
            Ok(None) => bail!("the first kernel ended before it had its orders; {}", tail(&console)),
            Err(error) => return Err(error.context(tail(&console))),
        }
    }
    let socket = folder.path().join("state");
    let listener = UnixListener::bind(&socket)?;
    let mut file = File::create(path)?;
    let written = thread::spawn(move || io::copy(&mut listener.accept()?.0, &mut file));
    let mut monitor = vm.monitor()?;
    // Bytes a second: as many as there can be.
    monitor.execute("migrate-set-parameters", &json!({ "max-bandwidth": 1_u64 << 40 }))?;
    monitor.execute("migrate", &json!({ "uri": format!("unix:{}", socket.display()) }))?;
    loop {
        let state = monitor.execute("query-migrate", &json!({}))?;
        match state["status"].as_str() {
            Some("completed") => break,
            Some("failed" | "cancelled") => bail!("QEMU does not save the machine: {state}"),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
    drop(vm);
    let bytes = written.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))??;
    ensure!(bytes > 0, "QEMU has saved nothing");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_snapshots_those_used_last_are_kept_and_none_that_somebody_may_be_about_to_open() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let make = |name: String, age: u64| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        };
        (0..KEPT as u64 + 3).for_each(|number| make(format!("{PREFIX}{number}"), 1000 - number));
        make("linux-6.1".to_owned(), 9000);
        prune(folder.path()).unwrap();
        let is_there = |number: usize| folder.path().join(format!("{PREFIX}{number}")).exists();
        let kept: Vec<_> = (0..KEPT + 3).filter(|number| is_there(*number)).collect();
        assert_eq!(kept, (3..KEPT + 3).collect::<Vec<_>>());
        assert!(folder.path().join("linux-6.1").exists());
        (0..9).for_each(|number| make(format!("{PREFIX}fresh{number}"), 5));
        (3..KEPT + 3).for_each(|number| make(format!("{PREFIX}{number}"), 6));
        prune(folder.path()).unwrap();
        assert!((3..KEPT + 3).all(is_there));
    }
}
