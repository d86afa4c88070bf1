//! Snapshots: a machine whose first kernel is up and waits for its orders, kept in a file from which any number of
//! machines go on. More than half of a test's time used to lie before that.
//!
//! Made by QEMU's migration. What a machine was made of is in the file's name; the BMC at the other end of a socket,
//! the debugger, the orders and ttyS1 are not the machine's, and are others in each run. A snapshot is good for one
//! boot of the host: a guest's TSC is the host's, whose frequency it has measured, and its addresses should be drawn
//! anew now and then.

use crate::machine::cache;
use crate::machine::console::{Line, tail};
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
use std::time::Duration;

const PREFIX: &str = "snapshot-";

/// The snapshot of this machine, made when there is none.
///
/// # Errors
/// When the machine does not come so far.
pub fn get(machine: &Machine) -> Result<PathBuf> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let prefix = format!("{PREFIX}{}-", boot.get(..8).context("the host's boot has no name")?);
    cache::entry(&format!("{prefix}{:016x}", key(machine)?), |path| {
        remove_all_but(&prefix)?;
        make(machine, path)
    })
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

/// Removes the snapshots of other boots of the host: they are large, and nobody can use them.
fn remove_all_but(prefix: &str) -> Result<()> {
    for entry in fs::read_dir(cache::target()?.join("vm"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = name.strip_prefix(".lock-").unwrap_or(&name);
        if name.starts_with(PREFIX) && !name.starts_with(prefix) {
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
