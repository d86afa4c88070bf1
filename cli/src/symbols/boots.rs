//! The symbols for the crashes of one kernel. Its own hold in any boot; a module's address is another in each, so that it
//! has to be found out which boot a crash ended.

use super::{Name, file, table::Table};
use anyhow::Result;
use std::path::Path;

/// The symbols for one kernel's crashes.
#[derive(Debug)]
pub struct Symbols {
    pub kernel: Table,
    pub boots: Vec<Boot>,
}

/// One boot of that kernel: its id, and the modules that it had.
#[derive(Debug)]
pub struct Boot {
    pub id: String,
    pub table: Table,
}

/// When a crash was, for the choice of the boot that it ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct When<'a> {
    /// Seconds since 1970 by this machine's clock, where they are known.
    pub time: Option<i64>,
    /// The boot id of the running system, when it is the one that crashed: it was not in this boot.
    pub running: Option<&'a str>,
}

impl Symbols {
    /// Those of a file: kallsyms, System.map, vmlinux or a saved one, packed with gzip or not. Its modules are taken for
    /// those of the crash's boot.
    ///
    /// # Errors
    /// When it cannot be read or is something else.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { kernel: file::open(path)?, boots: Vec::new() })
    }

    /// Are they of the kernel whose build id begins so, as far as the file has it?
    #[must_use]
    pub fn are_of(&self, build_id: u32) -> bool {
        let first = self.kernel.build_id.as_ref().and_then(|id| id.first_chunk());
        first.is_none_or(|first| u32::from_be_bytes(*first) == build_id)
    }

    /// Does the file have its kernel's build id?
    #[must_use]
    pub fn have_build_id(&self) -> bool {
        self.kernel.build_id.is_some()
    }

    /// The kernel's release.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.kernel.release.as_deref()
    }

    /// The name for an offset from `_stext`.
    #[must_use]
    pub fn kernel(&self, offset: u32) -> Option<Name> {
        self.kernel.kernel(u64::from(offset))
    }

    /// The name for an address in the boot that the crash ended. `Err` when a module was there in another boot, and
    /// nothing shows that this one was it.
    ///
    /// # Errors
    /// [`OtherBoot`].
    pub fn address(&self, address: u64, when: When<'_>) -> Result<Option<Name>, OtherBoot> {
        if self.boots.is_empty() {
            return Ok(self.kernel.address(address));
        }
        let in_boot = |boot: &Boot| {
            let image = || self.kernel.kernel(address.checked_sub(boot.table.stext)?);
            boot.table.module(address).or_else(image)
        };
        let crashed = |boot: &&Boot| when.running.is_none_or(|running| running != boot.id);
        let booted = |boot: &&Boot| boot.table.booted;
        let boot = match when.time {
            // The last one that had begun.
            Some(time) => self
                .boots
                .iter()
                .filter(crashed)
                .filter(|boot| booted(boot).is_some_and(|booted| booted <= time))
                .max_by_key(booted),
            // The only one that it can be.
            None => match self.boots.iter().filter(crashed).collect::<Vec<_>>()[..] {
                [boot] => Some(boot),
                _ => None,
            },
        };
        match boot {
            Some(boot) => Ok(in_boot(boot)),
            None if self.boots.iter().any(|boot| in_boot(boot).is_some()) => Err(OtherBoot),
            None => Ok(None),
        }
    }
}

/// The saved modules are of another boot, or nobody knows of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherBoot;
