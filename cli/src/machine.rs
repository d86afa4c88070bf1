//! What the running system is called, which boot it is in, and its clock.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// The running system's host name, where it has been set.
pub fn hostname(root: &Path) -> Option<String> {
    let name = fs::read_to_string(root.join("proc/sys/kernel/hostname")).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name != "(none)")
}

/// The running system's boot id.
pub fn boot_id(root: &Path) -> Option<String> {
    Some(fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).ok()?.trim().to_owned())
}

/// Seconds since 1970 by this machine's clock.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or_default()
}
