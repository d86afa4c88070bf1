//! The system calls and the few instructions that need `unsafe`, each with its reason; nothing else is done here, and
//! `unsafe` is nowhere else in the tool.

mod cpuid;
mod file;
mod ipmi;
mod kexec;
mod mapping;
mod ports;
mod process;
mod random;
mod tsc;

pub use cpuid::encrypted_virtualization;
pub use file::{Lock, effective_user, give_name, has_attribute, memory_file, readable};
pub use ipmi::{ipmi_receive, ipmi_send};
pub use kexec::{
    KexecSegment, Place, kexec_file_load, kexec_file_unload, kexec_load, kexec_load_is_allowed, kexec_unload,
};
pub use mapping::{Mapping, has_lease, lease};
#[cfg(test)]
pub use mapping::{is_asked_for, lent};
pub use ports::{port_get, port_permission, port_put};
pub use process::{
    Forked, end, end_after, fork_and_wait, in_time, kill_group, spare, survive_file_limit, try_and_undo,
};
pub use random::random_bytes;
pub use tsc::measure_tsc_khz;
