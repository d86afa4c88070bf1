//! Why a dump kernel cannot be loaded, and what to do about it: pure, from the kernel's error number and what /proc and
//! /sys show, since the numbers alone mean too many things.

use super::{kdump::Kdump, via::Obstacle};
use crate::message;
use std::io;
use thiserror::Error;

/// Why the kernel refuses, or would refuse.
#[derive(Debug, Error)]
pub enum Refusal {
    /// CONFIG_CRASH_DUMP=n, or /sys is not there.
    #[error(
        "this kernel has no kdump (no /sys/kernel/kexec_crash_loaded)\nhint: boot one with CONFIG_CRASH_DUMP=y"
    )]
    NoKdump,
    /// No memory reserved.
    #[error(
        "no memory is reserved for a dump kernel\nhint: boot with crashkernel=256M (or more) on the kernel's command line"
    )]
    NoReservation,
    /// Not enough memory reserved.
    #[error(
        "{reserved} MiB reserved for the dump kernel are too few, kernel and initrd alone need {needed}\n\
         hint: boot with a larger crashkernel="
    )]
    ReservationTooSmall {
        /// MiB that there are.
        reserved: u64,
        /// MiB that kernel and initrd take.
        needed: u64,
    },
    /// EADDRNOTAVAIL.
    #[error("the memory reserved for the dump kernel is too small\nhint: boot with a larger crashkernel=")]
    NoHole,
    /// sysctl kernel.kexec_load_disabled.
    #[error(
        "loading kernels is disabled until the next boot (sysctl kernel.kexec_load_disabled = 1)\nhint: reboot"
    )]
    Disabled,
    /// sysctl kernel.kexec_load_limit_panic.
    #[error(
        "no more dump kernels may be loaded until the next boot (sysctl kernel.kexec_load_limit_panic = 0)\n\
         hint: reboot"
    )]
    Limit,
    /// EPERM under lockdown.
    #[error(
        "the kernel is locked down ({mode}, as with Secure Boot) and accepts only kernels signed with a key that it \
         trusts{reason}\n{SIGN}"
    )]
    Lockdown {
        /// The lockdown mode.
        mode: String,
        /// Why there is no signature, where it may surprise.
        reason: &'static str,
    },
    /// ENODATA.
    #[error("the kernel demands a signature, and there is none{}\n{SIGN}", gone(*was_signed))]
    Unsigned {
        /// Was KERNEL signed, before the image was put into it?
        was_signed: bool,
    },
    /// ENOKEY.
    #[error(
        "the kernel does not trust the key of the signature{by}\n\
         hint: sign with a key that /proc/keys lists, or enrol the certificate: mokutil --import CERT, then reboot"
    )]
    UnknownKey {
        /// Whose key it is, where that is known, with a colon before it.
        by: String,
    },
    /// EKEYREJECTED, where the digest is another one.
    #[error(
        "the kernel was changed after it was signed\nhint: lastwords wrap, with --sign-key or --sign-command, makes a new one"
    )]
    Tampered,
    /// EKEYREJECTED, where there is a signing time.
    #[error(
        "the signature was made at {at}, when its certificate was not valid: {by}\n\
         hint: sign it with lastwords wrap --sign-key, which adds no signing time"
    )]
    Expired {
        /// Whose certificate.
        by: String,
        /// When.
        at: String,
    },
    /// EKEYREJECTED.
    #[error(
        "the kernel rejects the signature: KERNEL was changed after it was signed, its certificate was not valid then, or \
         one of them is on the firmware's list dbx\n\
         hint: lastwords wrap --sign-key signs it anew; dmesg may show the reason"
    )]
    Rejected,
    /// ENOPKG, ENOENT.
    #[error(
        "the kernel cannot check this kind of signature (Linux takes ECDSA and SHA-384 from 6.12 on)\n\
         hint: sign with an RSA key and SHA-256"
    )]
    Algorithm,
    /// EBADMSG, ELIBBAD.
    #[error("the kernel cannot read the signature\nhint: lastwords wrap --sign-key signs it anew")]
    Unreadable,
    /// EACCES.
    #[error(
        "the IMA policy forbids it: the policy may demand a signature in the file's attribute security.ima\n\
         hint: lastwords wrap, then evmctl ima_sign --key KEY OUT, and load that"
    )]
    Ima,
    /// EPERM and no other reason.
    #[error("no permission (CAP_SYS_BOOT)\nhint: run it as root")]
    Permission,
    /// EBUSY.
    #[error("another program is loading a kernel\nhint: retry")]
    Busy,
    /// ENOSYS.
    #[error(
        "this kernel has no kexec_file_load(2) (CONFIG_KEXEC_FILE=n)\n\
         hint: lastwords load --via purgatory"
    )]
    NoSystemCall,
    /// ENOSYS, when unloading.
    #[error(
        "this kernel has neither kexec_load(2) nor kexec_file_load(2): nothing can be loaded or unloaded"
    )]
    NoSystemCallToUnload,
    /// What keeps from loading as the purgatory.
    #[error("--via purgatory: {0}\nhint: lastwords load --via wrap")]
    Purgatory(Obstacle),
    /// ENOEXEC, EINVAL.
    #[error(
        "the running kernel does not accept this kernel or its command line (a dump kernel must be relocatable, and \
         support 5-level paging where the running one uses it)\nhint: dmesg may show the reason"
    )]
    Format,
    /// EINVAL, when the segments are that large.
    #[error(
        "kernel and initrd take more than half of this machine's memory, which the running kernel does not accept\n\
         hint: make a smaller initrd"
    )]
    MoreThanHalf,
    /// ENOMEM.
    #[error("not enough free memory to load it")]
    Memory,
    /// Anything else of kexec_load(2).
    #[error("kexec_load: {error}\nhint: dmesg may show the reason", error = message::system(.0))]
    KexecLoad(io::Error),
    /// Anything else.
    #[error("kexec_file_load: {error}", error = message::system(.0))]
    Other(io::Error),
}

const SIGNATURE_GONE: &str = " (KERNEL's own signature does not cover what is put into it)";
const SIGN: &str = "hint: lastwords load --sign-key KEY --sign-cert CERT, or --sign-command COMMAND; the key must be in db or MOK";

/// Why there is no signature, where it may surprise.
fn gone(was_signed: bool) -> &'static str {
    if was_signed { SIGNATURE_GONE } else { "" }
}

impl Refusal {
    /// Checks what is known before any file is read.
    ///
    /// # Errors
    /// [`Refusal::NoKdump`], [`Refusal::Disabled`], [`Refusal::Limit`], [`Refusal::Busy`],
    /// [`Refusal::NoReservation`].
    pub fn beforehand(kdump: &Kdump) -> Result<(), Self> {
        if kdump.crash_loaded.is_none() {
            return Err(Self::NoKdump);
        }
        if kdump.load_disabled {
            return Err(Self::Disabled);
        }
        if kdump.limit_panic == Some(0) {
            return Err(Self::Limit);
        }
        if kdump.busy {
            return Err(Self::Busy);
        }
        if kdump.crash_size == 0 {
            return Err(Self::NoReservation);
        }
        Ok(())
    }

    /// Checks whether so many bytes fit into the reserved memory.
    ///
    /// # Errors
    /// [`Refusal::ReservationTooSmall`].
    pub fn too_small(kdump: &Kdump, needs: u64) -> Result<(), Self> {
        if kdump.crash_size < needs {
            let (reserved, needed) = (kdump.crash_size >> 20, needs.div_ceil(1 << 20));
            return Err(Self::ReservationTooSmall { reserved, needed });
        }
        Ok(())
    }

    /// Is it about ordinary memory, where a trial has failed? That tells nothing of the reserved memory.
    pub fn is_about_ordinary_memory(&self) -> bool {
        matches!(self, Self::Memory | Self::NoHole)
    }

    /// Is it about the kernel's file, so that the same file will be refused again?
    pub fn is_about_the_file(&self) -> bool {
        matches!(
            self,
            Self::Lockdown { .. }
                | Self::Unsigned { .. }
                | Self::UnknownKey { .. }
                | Self::Tampered
                | Self::Expired { .. }
                | Self::Rejected
                | Self::Algorithm
                | Self::Unreadable
                | Self::Ima
                | Self::Format
        )
    }

    /// What the kernel's refusal of kexec_load(2) means.
    pub fn to_load_as_purgatory(error: &io::Error, kdump: &Kdump) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
                Obstacle::from_error(error, kdump).map_or(Self::Permission, Self::Purgatory)
            }
            Some(libc::EBUSY) => Self::Busy,
            Some(libc::EADDRNOTAVAIL) => Self::NoHole,
            Some(libc::ENOMEM) => Self::Memory,
            error => Self::KexecLoad(io::Error::from_raw_os_error(error.unwrap_or(libc::EIO))),
        }
    }

    /// What the kernel's refusal to unload means.
    pub fn to_unload(error: &io::Error, kdump: &Kdump) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) if kdump.load_disabled => Self::Disabled,
            Some(libc::EPERM) if kdump.limit_panic == Some(0) => Self::Limit,
            Some(libc::EPERM) => Self::Permission,
            Some(libc::EBUSY) => Self::Busy,
            Some(libc::ENOSYS) => Self::NoSystemCallToUnload,
            _ => Self::other(error),
        }
    }

    fn other(error: &io::Error) -> Self {
        Self::Other(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)))
    }
}

/// What an error number has to be seen with.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The running kernel.
    pub kdump: &'a Kdump,
    /// Is what is loaded signed?
    pub signed: bool,
    /// Was KERNEL signed, before the image was put into it?
    pub was_signed: bool,
    /// Bytes of reserved memory that kernel and initrd take.
    pub needs: u64,
}

impl Situation<'_> {
    /// What the system call's error means.
    pub fn refusal(&self, error: &io::Error) -> Refusal {
        match error.raw_os_error() {
            Some(libc::EPERM) => match &self.kdump.lockdown {
                Some(mode) => Refusal::Lockdown { mode: mode.clone(), reason: self.reason() },
                None => Refusal::Permission,
            },
            Some(libc::ENODATA) => Refusal::Unsigned { was_signed: self.was_signed },
            Some(libc::ENOKEY) => Refusal::UnknownKey { by: String::new() },
            Some(libc::EKEYREJECTED) => Refusal::Rejected,
            Some(libc::ENOPKG) => Refusal::Algorithm,
            Some(libc::ENOENT) if self.signed => Refusal::Algorithm,
            Some(libc::EBADMSG | libc::ELIBBAD) => Refusal::Unreadable,
            Some(libc::EACCES) => Refusal::Ima,
            Some(libc::EBUSY) => Refusal::Busy,
            Some(libc::ENOSYS) => Refusal::NoSystemCall,
            Some(libc::ENOEXEC | libc::EINVAL) => Refusal::Format,
            Some(libc::EADDRNOTAVAIL) => Refusal::NoHole,
            Some(libc::ENOMEM) => Refusal::Memory,
            _ => Refusal::other(error),
        }
    }

    fn reason(&self) -> &'static str {
        gone(self.was_signed && !self.signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Kdump {
        Kdump { crash_loaded: Some(true), crash_size: 256 << 20, ..Kdump::default() }
    }

    #[test]
    fn what_keeps_from_loading_is_found_beforehand() {
        assert!(Refusal::beforehand(&ready()).is_ok());
        for (kdump, what_to_do) in [
            (Kdump { crash_loaded: None, ..ready() }, "CONFIG_CRASH_DUMP=y"),
            (Kdump { load_disabled: true, ..ready() }, "kexec_load_disabled"),
            (Kdump { limit_panic: Some(0), ..ready() }, "kexec_load_limit_panic"),
            (Kdump { crash_size: 0, ..ready() }, "crashkernel=256M"),
            (Kdump { crash_size: 0, busy: true, ..ready() }, "another program"),
        ] {
            let text = Refusal::beforehand(&kdump).unwrap_err().to_string();
            assert!(text.contains(what_to_do), "{text}");
        }
        assert!(Refusal::beforehand(&Kdump { limit_panic: Some(1), ..ready() }).is_ok());
    }

    #[test]
    fn too_small_a_reservation_is_found_beforehand() {
        let kdump = Kdump { crash_size: 64 << 20, ..ready() };
        assert!(Refusal::too_small(&kdump, 64 << 20).is_ok());
        let text = Refusal::too_small(&kdump, (64 << 20) + 1).unwrap_err().to_string();
        assert!(text.starts_with("64 MiB reserved") && text.contains("alone need 65\n"), "{text}");
    }

    #[test]
    fn a_signature_that_is_gone_is_named() {
        let kdump = Kdump { lockdown: Some("integrity".to_owned()), ..ready() };
        let unsigned = Situation { kdump: &kdump, signed: false, was_signed: true, needs: 0 };
        for errno in [libc::EPERM, libc::ENODATA] {
            let text = unsigned.refusal(&io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains("--sign-key") && text.contains("does not cover"), "{text}");
        }
        let signed = Situation { signed: true, ..unsigned };
        let text = signed.refusal(&io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(text.contains("integrity") && !text.contains("does not cover"), "{text}");
    }

    #[test]
    fn each_error_number_has_a_hint() {
        let kdump = ready();
        let situation = Situation { kdump: &kdump, signed: false, was_signed: false, needs: 0 };
        for (errno, what_to_do) in [
            (libc::EPERM, "run it as root"),
            (libc::EKEYREJECTED, "dbx"),
            (libc::ENODATA, "--sign-key"),
            (libc::ENOKEY, "mokutil --import"),
            (libc::ENOPKG, "SHA-256"),
            (libc::EBADMSG, "cannot read the signature"),
            (libc::ELIBBAD, "cannot read the signature"),
            (libc::EACCES, "security.ima"),
            (libc::ENOENT, "kexec_file_load: "),
            (libc::EBUSY, "retry"),
            (libc::ENOSYS, "--via purgatory"),
            (libc::ENOEXEC, "dmesg"),
            (libc::EINVAL, "dmesg"),
            (libc::EADDRNOTAVAIL, "larger crashkernel="),
            (libc::ENOMEM, "not enough free memory"),
            (libc::EIO, "kexec_file_load: "),
        ] {
            let text = situation.refusal(&io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(what_to_do), "{errno}: {text}");
        }
        // Of a file that is missing it is not: both are open.
        let text =
            Situation { signed: true, ..situation }.refusal(&io::Error::from_raw_os_error(libc::ENOENT));
        assert!(text.to_string().contains("ECDSA"), "{text}");
    }

    #[test]
    fn a_trial_proves_nothing_about_the_reserved_memory() {
        let kdump = ready();
        let situation = Situation { kdump: &kdump, signed: false, was_signed: false, needs: 0 };
        for (errno, is_about_memory) in
            [(libc::ENOMEM, true), (libc::EADDRNOTAVAIL, true), (libc::EKEYREJECTED, false)]
        {
            let refusal = situation.refusal(&io::Error::from_raw_os_error(errno));
            assert_eq!(refusal.is_about_ordinary_memory(), is_about_memory, "{errno}: {refusal}");
            assert_eq!(refusal.is_about_the_file(), !is_about_memory, "{errno}: {refusal}");
        }
    }

    #[test]
    fn why_it_does_not_load_as_the_purgatory() {
        let locked = Kdump { lockdown: Some("integrity".to_owned()), ..ready() };
        for (errno, kdump, what_to_do) in [
            (libc::EPERM, ready(), "run it as root"),
            (libc::EPERM, locked, "--via wrap"),
            (libc::EACCES, ready(), "--via wrap"),
            (libc::ENOSYS, ready(), "CONFIG_KEXEC=n"),
            (libc::EBUSY, ready(), "retry"),
            (libc::EADDRNOTAVAIL, ready(), "larger crashkernel="),
            (libc::ENOMEM, ready(), "not enough free memory"),
            (libc::EINVAL, ready(), "kexec_load: "),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let text = Refusal::to_load_as_purgatory(&error, &kdump).to_string();
            assert!(text.contains(what_to_do), "{errno}: {text}");
        }
    }

    #[test]
    fn why_it_does_not_unload() {
        for (errno, kdump, what_to_do) in [
            (libc::EPERM, ready(), "run it as root"),
            (libc::EPERM, Kdump { load_disabled: true, ..ready() }, "kexec_load_disabled"),
            (libc::EPERM, Kdump { limit_panic: Some(0), ..ready() }, "kexec_load_limit_panic"),
            (libc::EBUSY, ready(), "retry"),
            (libc::ENOSYS, ready(), "neither"),
        ] {
            let text = Refusal::to_unload(&io::Error::from_raw_os_error(errno), &kdump).to_string();
            assert!(text.contains(what_to_do), "{errno}: {text}");
        }
    }
}
