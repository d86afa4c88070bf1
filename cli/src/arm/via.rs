//! The two loading methods, and which one is possible: as the purgatory with kexec_load(2), or wrapped into the dump
//! kernel with kexec_file_load(2).
//!
//! The purgatory is preferred, because it reports before the dump kernel's checksum is verified. But a kernel that demands
//! signatures cannot check them with kexec_load(2), and forbids it.

use super::{image::IMAGE, kdump::Kdump, x86_64::purgatory};
use crate::sys;
use clap::ValueEnum;
use std::{io, path::Path};
use thiserror::Error;

/// A loading method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Via {
    /// Load with kexec_load(2): the report comes before the checksum of the dump kernel is verified
    Purgatory,
    /// Load with kexec_file_load(2): the report comes after it; signed kernels can be verified
    Wrap,
}

/// What keeps from loading as the purgatory.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Obstacle {
    /// The image has no such entry.
    #[error("this build of lastwords has no purgatory in it")]
    NoEntry,
    /// Lockdown.
    #[error("lockdown ({0}) forbids kexec_load(2)")]
    Lockdown(String),
    /// EACCES: a policy that demands kernels to be appraised, which takes a file (`ima_load_data`).
    #[error("the IMA policy forbids kexec_load(2)")]
    Ima,
    /// ENOSYS.
    #[error("this kernel has no kexec_load(2) (CONFIG_KEXEC=n)")]
    NoSystemCall,
    /// No /proc/kcore.
    #[error("this kernel has no /proc/kcore, which shows where its memory is (CONFIG_PROC_KCORE=n)")]
    NoKcore,
    /// EPERM without lockdown.
    #[error("only root can find out whether kexec_load(2) is allowed")]
    Permission,
}

impl Obstacle {
    /// What an error number of kexec_load(2) means, when it is not about what is to be loaded.
    pub fn from_error(error: &io::Error, kdump: &Kdump) -> Option<Self> {
        match (error.raw_os_error(), &kdump.lockdown) {
            (Some(libc::EPERM), Some(mode)) => Some(Self::Lockdown(mode.clone())),
            (Some(libc::EACCES), _) => Some(Self::Ima),
            (Some(libc::ENOSYS), _) => Some(Self::NoSystemCall),
            _ => None,
        }
    }
}

/// What keeps from loading as the purgatory on this machine, if anything.
pub fn obstacle(root: &Path, kdump: &Kdump) -> Option<Obstacle> {
    let found = find(kdump, purgatory::has_entry(&IMAGE), sys::kexec_load_is_allowed);
    found.or_else(|| (!root.join("proc/kcore").exists()).then_some(Obstacle::NoKcore))
}

/// Are kernels checked on this machine before they are loaded? That is what forbids the other method.
pub fn demands_signatures(root: &Path, kdump: &Kdump) -> bool {
    kdump.lockdown.is_some() || obstacle(root, kdump) == Some(Obstacle::Ima)
}

fn find(kdump: &Kdump, has_entry: bool, ask: impl FnOnce() -> io::Result<()>) -> Option<Obstacle> {
    if !has_entry {
        return Some(Obstacle::NoEntry);
    }
    if let Some(mode) = &kdump.lockdown {
        return Some(Obstacle::Lockdown(mode.clone()));
    }
    // Asking would use one up.
    if kdump.limit_panic.is_some() || kdump.load_disabled {
        return None;
    }
    let error = ask().err()?;
    Some(Obstacle::from_error(&error, kdump).unwrap_or(Obstacle::Permission))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obstacles() {
        let free = Kdump::default();
        let locked = Kdump { lockdown: Some("integrity".to_owned()), ..free.clone() };
        let answer = |errno| move || Err(io::Error::from_raw_os_error(errno));
        assert_eq!(find(&free, true, || Ok(())), None);
        assert_eq!(find(&free, false, || Ok(())), Some(Obstacle::NoEntry));
        assert_eq!(find(&locked, true, || Ok(())), Some(Obstacle::Lockdown("integrity".to_owned())));
        assert_eq!(find(&free, true, answer(libc::EPERM)), Some(Obstacle::Permission));
        assert_eq!(find(&free, true, answer(libc::EACCES)), Some(Obstacle::Ima));
        assert_eq!(find(&free, true, answer(libc::ENOSYS)), Some(Obstacle::NoSystemCall));
    }

    #[test]
    fn without_kcore_nothing_shows_where_memory_is() {
        let root = tempfile::tempdir().unwrap();
        let limited = Kdump { limit_panic: Some(2), ..Kdump::default() };
        assert_eq!(obstacle(root.path(), &limited), Some(Obstacle::NoKcore));
        std::fs::create_dir(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/kcore"), "").unwrap();
        assert_eq!(obstacle(root.path(), &limited), None);
    }

    #[test]
    fn nobody_is_asked_where_asking_costs() {
        let limited = Kdump { limit_panic: Some(2), ..Kdump::default() };
        assert_eq!(find(&limited, true, || panic!("asked")), None);
    }
}
