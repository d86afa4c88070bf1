//! Loading a dump kernel as `kexec -p` does, for x86_64: with kexec_load(2), the flat image in purgatory's place.
//!
//! Everything here but `first_kernel`'s reading of files is pure: ranges, tables and bytes in, bytes out.

pub mod boot_params;
pub mod core_header;
pub mod first_kernel;
pub mod placement;
pub mod purgatory;

/// Unit of everything the kernel loads.
pub const PAGE: u64 = 4096;

/// Writes a little-endian field at its offset.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
