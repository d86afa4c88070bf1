//! Puts the flat image behind a kernel, with a hook at its 64-bit entry, and takes both out again. A wrapped kernel, in
//! its protected-mode part:
//!
//! ```text
//! 0x000          32-bit entry
//! below 0x200    trampoline, in the zeros that fill up the space before the 64-bit entry
//! 0x200          64-bit entry: jmp trampoline
//! ...            rest of the kernel
//! image - 8      what unwrapping needs: the kernel's own length and syssize
//! image          the flat image, on a page boundary; it starts with the header of `lastwords_core::abi`
//! ```

use crate::{
    BzImage, alone,
    bytes::{field, put, u32_at},
    bzimage::{PAGE, PARAGRAPH, Patched, setup_header},
    error::{Error, Result},
};
use lastwords_core::abi::{self, DISPLACED_LEN, ENTRY_64, MAGIC, PARAMETERS_LEN, WayOut};
use lastwords_core::digest;
use std::ops::Range;

/// Distance between kernel and image. Behind the file, in memory, the decompressor has its .bss, and in a 32-bit boot
/// startup_32 has its stack there before it gets to the 64-bit entry. With no gap it pushes into the image, as seen with
/// QEMU's direct boot of Debian's 6.1 and 6.12, where the stack is the first 16 KiB of .bss. In other kernels it lies
/// behind the decompressor's heap: 64 or 192 KiB, or with bzip2 4 MiB, which is beyond the image again.
const GAP: usize = 256 << 10;

/// Room that is left between the image's memory and the end of `init_size`. startup_32 puts its page tables at that
/// end, where the decompressor is going to move itself, before it gets to the 64-bit entry. Every real kernel has far
/// more room, because it is larger unpacked than packed. init_size is not raised for one that has not: the EFI stub
/// of kernels before 6.6 takes for granted that the firmware gave it as much memory as init_size says.
const ROOM: usize = 1 << 20;

/// So much of the protected-mode part shows whether there is a hook: a `jmp rel8` leads no further.
const HEAD_LEN: usize = 4096;

/// Length of the hook itself, a `jmp rel8`: two bytes, because one short instruction puts two back. Linux 5.10 with
/// CONFIG_EFI_MIXED has only 35 bytes to spare before the 64-bit entry.
const HOOK_LEN: usize = 2;
/// Length of the trampoline's code.
pub(crate) const TRAMPOLINE_LEN: usize = 27;
/// Zeros that stay between the code before the trampoline and the trampoline: that code ends with a jump or return,
/// whose last four bytes may be zero.
pub(crate) const TRAMPOLINE_MARGIN: usize = 4;

/// Where the parameters are in a header of version 1: kernels that were wrapped then are loaded still.
const PARAMETERS_IN_1: usize = 40;

/// Length of what is kept right before the image: the kernel's length and its `syssize`, 32 bits each.
const RECORD_LEN: usize = 8;

/// What wrapping has put into a kernel. Offsets are from the start of the protected-mode part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    trampoline: usize,
    image: usize,
    displaced: [u8; DISPLACED_LEN],
    /// Length of the protected-mode part before it was wrapped.
    len: usize,
    syssize: u32,
}

/// Puts the flat image behind a kernel, hooks it in at the 64-bit entry and embeds the parameters. A signature is taken
/// off, because it would no longer be true.
///
/// ```
/// use lastwords_boot::{BzImage, embedded_parameters, synthetic, wrap};
///
/// let kernel = synthetic::Kernel::default().build();
/// let image = synthetic::image(4096, 8192);
/// let wrapped = wrap(&kernel, &image, "lastwords.ipmi_handle_panic")?;
/// assert!(BzImage::parse(&wrapped)?.is_wrapped());
/// assert_eq!(embedded_parameters(&wrapped)?, "lastwords.ipmi_handle_panic");
/// # Ok::<(), lastwords_boot::Error>(())
/// ```
///
/// # Errors
/// When `kernel` is not a 64-bit bzImage, has no room, or is wrapped already; when the parameters are too long.
pub fn wrap(kernel: &[u8], image: &[u8], parameters: &str) -> Result<Vec<u8>> {
    Ok(wrapped(kernel, image, parameters)?.concat())
}

/// As [`wrap`], with no copy of the kernel.
///
/// # Errors
/// As [`wrap`].
pub fn wrapped<'a>(kernel: &'a [u8], image: &[u8], parameters: &str) -> Result<Patched<'a>> {
    let bz_image = BzImage::parse(kernel)?;
    if bz_image.is_wrapped() {
        return Err(Error::AlreadyWrapped);
    }
    if parameters.len() >= PARAMETERS_LEN {
        return Err(Error::ParametersTooLong(parameters.len()));
    }
    let memory_size = check_image(image)?;

    let (setup, own) = bz_image.parts(kernel);
    // What stands for no dump kernel has no memory of its own.
    let (gap, room) = if bz_image.is_alone() { (RECORD_LEN, 0) } else { (GAP, ROOM) };
    let image_at = (own.len() + gap).next_multiple_of(PAGE);
    let needs = image_at.saturating_add(memory_size).saturating_add(room);
    if (bz_image.init_size as usize) < needs && !bz_image.is_alone() {
        return Err(Error::NoRoomForImage { init_size: bz_image.init_size as usize, needs });
    }
    let trampoline_at = trampoline_place(own).ok_or(Error::NoRoomForHook)?;

    let entry_64 = ENTRY_64 as usize;
    let displaced = field(own, entry_64).ok_or(Error::NotBzImage)?;
    let entry = image_at + u32_at(image, abi::ENTRY).ok_or(Error::Image("no header"))? as usize;

    let mut patched = Patched::new(setup, own, entry_64 + DISPLACED_LEN);
    patched.put(setup.len() + entry_64, &jump(entry_64, trampoline_at));
    patched.put(setup.len() + trampoline_at, &trampoline(trampoline_at, image_at, entry, displaced));
    let tail = &mut patched.tail;
    tail.resize(image_at - RECORD_LEN - own.len(), 0);
    tail.extend((own.len() as u32).to_le_bytes());
    tail.extend(u32_at(setup, setup_header::SYSSIZE).unwrap_or(0).to_le_bytes());
    tail.extend(image);
    let way_out = WayOut::of_wrapped((image_at - entry_64) as u64, displaced);
    let image_in_tail = &mut tail[image_at - own.len()..];
    fill_in(image_in_tail, &way_out, parameters, &[]);
    if bz_image.is_alone() {
        has_no_dump_kernel(image_in_tail);
    }
    let len = (image_at + image.len()).next_multiple_of(PARAGRAPH);
    tail.resize(len - own.len(), 0);
    if bz_image.is_alone() {
        let init_size = needs.next_multiple_of(PAGE) as u32;
        patched.put(setup_header::INIT_SIZE, &init_size.to_le_bytes());
    }
    bz_image.mend(&mut patched, (len / PARAGRAPH) as u32);
    Ok(patched)
}

/// Tells the flat image that there is no dump kernel.
pub fn has_no_dump_kernel(image: &mut [u8]) {
    put(image, abi::NO_DUMP_KERNEL_AT, &abi::NO_DUMP_KERNEL.to_le_bytes());
}

/// Fills in the tool's fields of the flat image's header: the way out, the parameters (shorter than their field), and
/// the bytes of the [`Handoff`](abi::Handoff), none in a wrapped kernel; and sums the image up.
pub fn fill_in(image: &mut [u8], way_out: &WayOut, parameters: &str, handoff: &[u8]) {
    let ways_out = [way_out.bytes(), way_out.bytes()];
    put(image, abi::WAYS_OUT, ways_out.as_flattened());
    let mut field = [0; PARAMETERS_LEN];
    for (to, from) in field.iter_mut().zip(parameters.bytes()) {
        *to = from;
    }
    put(image, abi::PARAMETERS, &field);
    put(image, abi::HANDOFF, handoff);
    let file_size = u32_at(image, abi::FILE_SIZE).map_or(0, |size| size as usize);
    let sum = digest::sum(image.get(abi::SUMMED..file_size).unwrap_or_default());
    put(image, abi::OWN_SUM, &sum.to_le_bytes());
}

/// Takes out what [`wrap`] put in. What it cannot bring back is a signature and a wrong check sum.
///
/// # Errors
/// When it is not a 64-bit bzImage. A kernel that is not wrapped is given back as it is, without its signature.
pub fn unwrap(kernel: &[u8]) -> Result<Vec<u8>> {
    Ok(unwrapped(kernel)?.concat())
}

/// As [`unwrap`], with no copy of the kernel.
///
/// # Errors
/// As [`unwrap`].
pub fn unwrapped(kernel: &[u8]) -> Result<Patched<'_>> {
    let bz_image = BzImage::parse(kernel)?;
    let (setup, protected_mode) = bz_image.parts(kernel);
    let Some(hook) = &bz_image.hook else {
        let mut patched = Patched::new(setup, protected_mode, 0);
        bz_image.mend(&mut patched, u32_at(setup, setup_header::SYSSIZE).unwrap_or(0));
        return Ok(patched);
    };
    let mut patched = Patched::new(setup, &protected_mode[..hook.len], hook.end());
    hook.take_out(&mut patched.head[setup.len()..]);
    if bz_image.is_alone() {
        patched.put(setup_header::INIT_SIZE, &alone::INIT_SIZE.to_le_bytes());
    }
    bz_image.mend(&mut patched, hook.syssize);
    Ok(patched)
}

/// The parameters embedded in a wrapped kernel; of one that is not wrapped, none.
///
/// # Errors
/// When it is not a 64-bit bzImage.
pub fn embedded_parameters(kernel: &[u8]) -> Result<String> {
    let bz_image = BzImage::parse(kernel)?;
    let Some(hook) = &bz_image.hook else { return Ok(String::new()) };
    image_parameters(bz_image.protected_mode(kernel).get(hook.image..).ok_or(Error::Damaged)?)
}

/// The parameters embedded in a flat image, whatever lies behind it.
///
/// # Errors
/// When it has no header, or one of a version that is not known.
pub fn image_parameters(image: &[u8]) -> Result<String> {
    let parameters_at = match u32_at(image, abi::VERSION_AT).ok_or(Error::Damaged)? {
        1 => PARAMETERS_IN_1,
        abi::VERSION => abi::PARAMETERS,
        other => return Err(Error::OtherVersion(other)),
    };
    let field: [u8; PARAMETERS_LEN] = field(image, parameters_at).ok_or(Error::Damaged)?;
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The flat image as it was built, without what [`fill_in`] has put in; whatever lies behind it is left out.
///
/// # Errors
/// When it is of another version, or no longer has the sum that it was given: then it reports nothing.
pub fn as_built(image: &[u8]) -> Result<Vec<u8>> {
    if field(image, 0) != Some(MAGIC) {
        return Err(Error::Damaged);
    }
    let version = u32_at(image, abi::VERSION_AT).ok_or(Error::Damaged)?;
    if version != abi::VERSION {
        return Err(Error::OtherVersion(version));
    }
    let file_size = u32_at(image, abi::FILE_SIZE).ok_or(Error::Damaged)? as usize;
    let mut image = image.get(..file_size).ok_or(Error::Damaged)?.to_vec();
    let summed = image.get(size_of::<abi::Header>()..).and(image.get(abi::SUMMED..)).ok_or(Error::Damaged)?;
    if field(&image, abi::OWN_SUM) != Some(digest::sum(summed).to_le_bytes()) {
        return Err(Error::Damaged);
    }
    if u32_at(&image, abi::NO_DUMP_KERNEL_AT) == Some(abi::NO_DUMP_KERNEL) {
        put(&mut image, abi::NO_DUMP_KERNEL_AT, &[0; 4]);
    }
    image[abi::WAYS_OUT..abi::OWN_SUM].fill(0);
    image[abi::PARAMETERS..size_of::<abi::Header>()].fill(0);
    let sum = digest::sum(&image[abi::SUMMED..]);
    put(&mut image, abi::OWN_SUM, &sum.to_le_bytes());
    Ok(image)
}

/// What a wrapped kernel's protected-mode part holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhooked {
    /// Length of the kernel's own protected-mode part, with which it begins.
    pub len: usize,
    /// Its beginning as it was before. All that follows is as it was.
    pub head: Vec<u8>,
    /// The flat image, and what lies behind it.
    pub image: Vec<u8>,
}

/// Takes apart a protected-mode part alone, as a loader has put it into memory; a signature may lie behind it. `read` gives
/// its bytes, `len` is its length. `None` when it is not wrapped.
///
/// # Errors
/// When there is a hook, but not all that belongs to it.
pub fn unhook(read: impl Fn(Range<usize>) -> Option<Vec<u8>>, len: usize) -> Result<Option<Unhooked>> {
    /// More than image and signature take.
    const BEHIND: usize = 1 << 20;
    let mut head = read(0..len.min(HEAD_LEN)).unwrap_or_default();
    let Some(hook) = Hook::read(&head, &read)? else { return Ok(None) };
    let end = hook.image.saturating_add(BEHIND).min(len);
    let image = read(hook.image..end).ok_or(Error::Damaged)?;
    head.truncate(hook.end());
    hook.take_out(&mut head);
    Ok(Some(Unhooked { len: hook.len, head, image }))
}

impl Hook {
    /// Finds the hook in the protected-mode part: a jump to exactly the code that [`trampoline`] makes.
    pub fn find(protected_mode: &[u8]) -> Result<Option<Self>> {
        Self::read(protected_mode, |range| protected_mode.get(range).map(<[u8]>::to_vec))
    }

    /// Finds it in the first bytes; `read` gives all others.
    fn read(head: &[u8], read: impl Fn(Range<usize>) -> Option<Vec<u8>>) -> Result<Option<Self>> {
        let entry_64 = ENTRY_64 as usize;
        let find = || {
            let at = jump_target(head, entry_64)?;
            let code: [u8; TRAMPOLINE_LEN] = field(head, at)?;
            let image = at.checked_add(10)?.checked_add_signed(u32_at(&code, 2)?.cast_signed() as isize)?;
            let entry = at.checked_add(16)?.checked_add_signed(u32_at(&code, 12)?.cast_signed() as isize)?;
            let mut displaced: [u8; DISPLACED_LEN] = field(head, entry_64)?;
            put(&mut displaced, 0, &code[23..25]);
            (code == trampoline(at, image, entry, displaced)).then_some((at, image, displaced))
        };
        let Some((trampoline, image, displaced)) = find() else { return Ok(None) };
        let record = || {
            let start = image.checked_sub(RECORD_LEN)?;
            let record = read(start..image.checked_add(MAGIC.len())?)?;
            let (len, syssize) = (u32_at(&record, 0)? as usize, u32_at(&record, 4)?);
            let least = (entry_64 + DISPLACED_LEN).max(trampoline + TRAMPOLINE_LEN);
            let fits = (least..=start).contains(&len);
            (fits && field(&record, RECORD_LEN) == Some(MAGIC)).then_some((len, syssize))
        };
        let (len, syssize) = record().ok_or(Error::Damaged)?;
        Ok(Some(Self { trampoline, image, displaced, len, syssize }))
    }

    /// Puts back what stood in the beginning of the protected-mode part.
    fn take_out(&self, head: &mut [u8]) {
        for (at, bytes) in self.own() {
            put(head, at, bytes);
        }
    }

    /// The bytes that stood where the hook and the trampoline are.
    fn own(&self) -> [(usize, &[u8]); 2] {
        [(ENTRY_64 as usize, &self.displaced), (self.trampoline, &[0; TRAMPOLINE_LEN])]
    }

    /// Where the last of them ends.
    fn end(&self) -> usize {
        (ENTRY_64 as usize + DISPLACED_LEN).max(self.trampoline + TRAMPOLINE_LEN)
    }
}

/// Checks the flat image's own header and gives its memory_size.
fn check_image(image: &[u8]) -> Result<usize> {
    if field(image, 0) != Some(MAGIC) || u32_at(image, abi::VERSION_AT) != Some(abi::VERSION) {
        return Err(Error::Image("no header of this version"));
    }
    if image.len() < size_of::<abi::Header>() {
        return Err(Error::Image("shorter than its header"));
    }
    let number = |at| u32_at(image, at).unwrap_or(0) as usize;
    let (entry, file_size, memory_size) =
        (number(abi::ENTRY), number(abi::FILE_SIZE), number(abi::MEMORY_SIZE));
    if entry >= image.len() || file_size != image.len() || memory_size < file_size {
        return Err(Error::Image("entry, file_size or memory_size does not fit"));
    }
    Ok(memory_size)
}

/// Where the trampoline goes: at the end of the last run of zeros before the 64-bit entry that is long enough, within
/// a `jmp rel8`. Only the filling up to a fixed offset has so many zeros (`.org` before startup_64).
fn trampoline_place(protected_mode: &[u8]) -> Option<usize> {
    let before = protected_mode.get(..ENTRY_64 as usize)?;
    let run = before
        .windows(TRAMPOLINE_MARGIN + TRAMPOLINE_LEN)
        .rposition(|run| run.iter().all(|byte| *byte == 0))?;
    let place = run + TRAMPOLINE_MARGIN;
    (ENTRY_64 as usize + HOOK_LEN - place <= 0x80).then_some(place)
}

/// The code between hook and image. When an EFI stub before Linux 6.6 jumps to the 64-bit entry, the firmware has
/// loaded the PE sections only, the image is not there, and the kernel must start as if it had never been touched.
/// No register but the flags may be changed and no stack is there:
///
/// ```text
/// cmpl $MAGIC, image(%rip)
/// je   entry                  the image, which puts the bytes back itself
/// movw $DISPLACED, 0x200(%rip)
/// jmp  0x200
/// ```
fn trampoline(at: usize, image: usize, entry: usize, displaced: [u8; DISPLACED_LEN]) -> [u8; TRAMPOLINE_LEN] {
    let entry_64 = ENTRY_64 as usize;
    let mut code = [0; TRAMPOLINE_LEN];
    // Opcode, ModRM 0x3d or 0x05 = RIP-relative, displacement from the end of the instruction, immediate.
    put(&mut code, 0, &[0x81, 0x3d]);
    put(&mut code, 2, &relative(at + 10, image));
    put(&mut code, 6, &MAGIC[..4]);
    put(&mut code, 10, &[0x0f, 0x84]);
    put(&mut code, 12, &relative(at + 16, entry));
    put(&mut code, 16, &[0x66, 0xc7, 0x05]);
    put(&mut code, 19, &relative(at + 25, entry_64));
    put(&mut code, 23, &displaced[..HOOK_LEN]);
    put(&mut code, 25, &jump(at + 25, entry_64));
    code
}

/// `jmp rel8` at `at`.
fn jump(at: usize, target: usize) -> [u8; HOOK_LEN] {
    let [distance, ..] = relative(at + HOOK_LEN, target);
    [0xeb, distance]
}

/// Where the `jmp rel8` at `at` goes, if there is one.
fn jump_target(code: &[u8], at: usize) -> Option<usize> {
    let [0xeb, distance] = field::<HOOK_LEN>(code, at)? else { return None };
    (at + HOOK_LEN).checked_add_signed(distance.cast_signed() as isize)
}

/// Distance from the end of an instruction to its target; both are below 2 GiB.
fn relative(from: usize, target: usize) -> [u8; 4] {
    (target as u32).wrapping_sub(from as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{Kernel, image};
    use proptest::prelude::*;

    fn unhook_all(protected_mode: &[u8]) -> Result<Option<Unhooked>> {
        unhook(|range| protected_mode.get(range).map(<[u8]>::to_vec), protected_mode.len())
    }

    fn wrap_default(kernel: &[u8]) -> Vec<u8> {
        wrap(kernel, &image(5001, 0x20000), "lastwords.ipmi_handle_panic").unwrap()
    }

    /// Where things are in the default kernel: its setup part is 4096 bytes long.
    const PROTECTED_MODE: usize = 4096;

    #[test]
    fn the_trampoline_is_this_code() {
        #[rustfmt::skip]
        let code = [
            0x81, 0x3d, 0x26, 0xfe, 0x1f, 0x00, b'l', b'a', b's', b't', // cmpl $0x7473616c, 0x200000(%rip)
            0x0f, 0x84, 0x78, 0x00, 0x20, 0x00,                         // je   0x200258
            0x66, 0xc7, 0x05, 0x17, 0x00, 0x00, 0x00, 0xfc, 0xfa,       // movw $0xfafc, 0x200(%rip)
            0xeb, 0x15,                                                 // jmp  0x200
        ];
        assert_eq!(trampoline(0x1d0, 0x200000, 0x200258, [0xfc, 0xfa, 0x31, 0xc0, 0x8e]), code);
        assert_eq!(jump(0x200, 0x1d0), [0xeb, 0xce]);
        assert_eq!(jump_target(&[0, 0, 0xeb, 0xfc], 2), Some(0));
    }

    #[test]
    fn the_hook_leads_to_the_image_and_the_image_back_to_the_kernel() {
        let kernel = Kernel::default().build();
        let wrapped = wrap_default(&kernel);
        let (before, after) = (&kernel[PROTECTED_MODE..], &wrapped[PROTECTED_MODE..]);
        let trampoline_at = 0x200 - TRAMPOLINE_LEN;
        assert_eq!(jump_target(after, 0x200), Some(trampoline_at));

        let image_at = (before.len() + GAP).next_multiple_of(PAGE);
        assert_eq!(
            after[trampoline_at..0x200],
            trampoline(trampoline_at, image_at, image_at + 600, field(before, 0x200).unwrap())
        );
        assert_eq!(after[image_at..image_at + 8], MAGIC);
        let displaced: [u8; DISPLACED_LEN] = field(before, 0x200).unwrap();
        let way_out = WayOut::of_wrapped(image_at as u64 - 0x200, displaced).bytes();
        assert_eq!(after[image_at + abi::WAYS_OUT..][..2 * way_out.len()], [way_out, way_out].concat());
        let sum = digest::sum(&after[image_at + abi::SUMMED..][..5001 - abi::SUMMED]);
        assert_eq!(field(after, image_at + abi::OWN_SUM), Some(sum.to_le_bytes()));
        assert!(after[image_at + abi::PARAMETERS..].starts_with(b"lastwords.ipmi_handle_panic\0"));
        assert_eq!(embedded_parameters(&wrapped).unwrap(), "lastwords.ipmi_handle_panic");
        assert_eq!(embedded_parameters(&kernel).unwrap(), "");

        assert_eq!(after.len() % PARAGRAPH, 0);
        assert_eq!(u32_at(&wrapped, 0x1f4), Some((after.len() / PARAGRAPH) as u32));
        // Nothing else in the kernel is different.
        assert_eq!(after[..trampoline_at], before[..trampoline_at]);
        assert_eq!(after[0x202..before.len()], before[0x202..]);
        assert_eq!(wrapped[0x1f8..PROTECTED_MODE], kernel[0x1f8..PROTECTED_MODE]);
    }

    #[test]
    fn the_signature_is_taken_off_and_the_check_sum_is_right() {
        let signed = Kernel { certificates: 0x5c0, ..Kernel::default() }.build();
        assert!(BzImage::parse(&signed).unwrap().is_signed());
        let wrapped = wrap_default(&signed);
        assert!(!BzImage::parse(&wrapped).unwrap().is_signed());
        assert_eq!(wrapped, wrap_default(&Kernel::default().build()));

        // As the PE format's authors describe it: carry by carry.
        let check_sum_at = 0x40 + 24 + 64;
        let mut sum = 0u32;
        for (at, word) in wrapped.chunks_exact(2).enumerate() {
            if at * 2 == check_sum_at || at * 2 == check_sum_at + 2 {
                continue;
            }
            sum += u32::from(u16::from_le_bytes([word[0], word[1]]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(u32_at(&wrapped, check_sum_at), Some(sum + wrapped.len() as u32));
    }

    #[test]
    fn a_kernel_without_pe_header_is_wrapped_too() {
        let kernel = Kernel { pe: false, setup_sects: 0, ..Kernel::default() }.build();
        let wrapped = wrap_default(&kernel);
        assert!(BzImage::parse(&wrapped).unwrap().is_wrapped());
        assert_eq!(unwrap(&wrapped).unwrap(), kernel);
    }

    #[test]
    fn the_trampoline_goes_to_the_last_zeros_that_are_long_enough_and_near() {
        let kernel = Kernel::default().build();
        let place = |code: Range<usize>| {
            let mut kernel = kernel.clone();
            kernel[PROTECTED_MODE + code.start..PROTECTED_MODE + code.end].fill(0x90);
            let wrapped = wrap(&kernel, &image(5001, 0x20000), "")?;
            assert_eq!(unwrap(&wrapped)?[PROTECTED_MODE..], kernel[PROTECTED_MODE..]);
            Ok(jump_target(&wrapped[PROTECTED_MODE..], 0x200).unwrap())
        };
        // As Linux 5.10 with CONFIG_EFI_MIXED has it.
        assert_eq!(place(0x190..0x1dd), Ok(0x200 - TRAMPOLINE_LEN));
        assert_eq!(place(0x1b0..0x1f0), Ok(0x1b0 - TRAMPOLINE_LEN));
        // Too far for the hook.
        assert_eq!(place(0x19c..0x200), Err(Error::NoRoomForHook));
        assert_eq!(place(0x19d..0x200), Ok(0x182));
    }

    #[test]
    fn what_cannot_be_wrapped_says_why() {
        let kernel = Kernel::default();
        let built = kernel.build();
        let good = image(5001, 0x20000);
        let error = |kernel: &[u8]| wrap(kernel, &good, "").unwrap_err();

        assert_eq!(error(b"\x7fELF"), Error::NotBzImage);
        assert_eq!(error(&[]), Error::NotBzImage);
        assert_eq!(error(&Kernel { version: 0x20b, ..kernel.clone() }.build()), Error::Old(0x20b));
        assert_eq!(error(&Kernel { xloadflags: 0, ..kernel.clone() }.build()), Error::Not64Bit);
        assert_eq!(error(&Kernel { padding: 0x1e2, ..kernel.clone() }.build()), Error::NoRoomForHook);
        assert!(matches!(error(&built[..built.len() - 16]), Error::Truncated { .. }));
        assert!(matches!(error(&built[..0x220]), Error::Truncated { .. }));
        assert_eq!(error(&wrap_default(&built)), Error::AlreadyWrapped);
        let parameters = "x".repeat(PARAMETERS_LEN);
        assert_eq!(wrap(&built, &good, &parameters), Err(Error::ParametersTooLong(PARAMETERS_LEN)));
        assert!(wrap(&built, &good, &parameters[1..]).is_ok());
    }

    #[test]
    fn the_image_and_the_room_behind_it_lie_within_init_size() {
        let body = Kernel::default();
        let image_at = (body.build().len() - PROTECTED_MODE + GAP).next_multiple_of(PAGE);
        let needs = image_at + 0x20000 + ROOM;
        let enough = Kernel { init_size: needs as u32, ..body.clone() }.build();
        assert!(BzImage::parse(&wrap_default(&enough)).unwrap().is_wrapped());
        let less = Kernel { init_size: needs as u32 - 1, ..body }.build();
        assert_eq!(
            wrap(&less, &image(5001, 0x20000), ""),
            Err(Error::NoRoomForImage { init_size: needs - 1, needs })
        );
    }

    #[test]
    fn a_wrapped_kernel_without_its_image_is_damaged() {
        let kernel = Kernel::default().build();
        let mut wrapped = wrap_default(&kernel);
        let image_at = wrapped.windows(8).position(|bytes| bytes == MAGIC).unwrap();
        wrapped[image_at] ^= 1;
        assert_eq!(BzImage::parse(&wrapped), Err(Error::Damaged));
        wrapped[image_at] ^= 1;
        put(&mut wrapped, image_at - RECORD_LEN, &u32::MAX.to_le_bytes());
        assert_eq!(BzImage::parse(&wrapped), Err(Error::Damaged));
    }

    #[test]
    fn parameters_of_other_versions_are_read_or_named() {
        let wrapped = wrap_default(&Kernel::default().build());
        let image_at = wrapped.windows(8).position(|bytes| bytes == MAGIC).unwrap();
        let version = |version: u32| {
            let mut wrapped = wrapped.clone();
            put(&mut wrapped, image_at + abi::VERSION_AT, &version.to_le_bytes());
            put(&mut wrapped, image_at + 40, b"lastwords.budget=9\0");
            wrapped
        };
        assert_eq!(embedded_parameters(&version(1)).unwrap(), "lastwords.budget=9");
        assert_eq!(embedded_parameters(&version(3)), Err(Error::OtherVersion(3)));
        assert!(unwrap(&version(3)).is_ok());
    }

    #[test]
    fn what_lies_in_memory_is_taken_apart_with_a_signature_behind_it_or_without() {
        let (kernel, mut built) = (Kernel::default().build(), image(5001, 0x20000));
        // As the build leaves it: nothing filled in.
        built[abi::HANDOFF..size_of::<abi::Header>()].fill(0);
        fill_in(&mut built, &WayOut::NONE, "", &[]);
        built[abi::WAYS_OUT..abi::OWN_SUM].fill(0);
        let wrapped = wrap(&kernel, &built, "lastwords.budget=9").unwrap();
        for behind in [&[][..], &[0x5a; 1000]] {
            let loaded = [&wrapped[PROTECTED_MODE..], behind].concat();
            let Unhooked { len, head, image } = unhook_all(&loaded).unwrap().unwrap();
            assert!([&head, &loaded[head.len()..len]].concat() == kernel[PROTECTED_MODE..]);
            assert_eq!(image_parameters(&image).unwrap(), "lastwords.budget=9");
            assert!(as_built(&image).unwrap() == built);
        }
        assert_eq!(unhook_all(&kernel[PROTECTED_MODE..]), Ok(None));
    }

    #[test]
    fn an_image_that_is_corrupt_or_of_another_version_is_none_that_was_built() {
        let mut good = image(5000, 0x20000);
        fill_in(&mut good, &WayOut::NONE, "lastwords.budget=9", &[]);
        assert!(as_built(&good).is_ok());
        for at in [0, abi::PARAMETERS, abi::HANDOFF, 4999] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(as_built(&bad).unwrap_err(), Error::Damaged, "{at}");
        }
        put(&mut good, abi::VERSION_AT, &1u32.to_le_bytes());
        assert_eq!(as_built(&good).unwrap_err(), Error::OtherVersion(1));
        for len in [0, 7, 12, 100, 4999] {
            assert!(as_built(&good[..len]).is_err(), "{len}");
        }
    }

    fn kernels() -> impl Strategy<Value = Kernel> {
        let body = prop::collection::vec(any::<u8>(), 5..9000);
        (body, any::<bool>(), 0usize..3, 0u8..16, 0usize..=0x1e1).prop_map(
            |(body, pe, certificates, setup_sects, padding)| Kernel {
                body,
                pe,
                certificates: if pe { certificates * 8 } else { 0 },
                setup_sects,
                padding,
                ..Kernel::default()
            },
        )
    }

    proptest! {
        #[test]
        fn unwrapping_restores_the_kernel(kernel in kernels(), len in size_of::<abi::Header>()..9000, parameters in "[ -~]{0,511}") {
            let signed = kernel.build();
            let image = image(len, 0x8000);
            let wrapped = wrap(&signed, &image, &parameters).unwrap();
            let unwrapped = unwrap(&wrapped).unwrap();
            let protected_mode = kernel.setup_len()..signed.len() - kernel.certificates;
            prop_assert_eq!(&unwrapped[kernel.setup_len()..], &signed[protected_mode]);
            prop_assert_eq!(&unwrapped, &unwrap(&signed).unwrap());
            prop_assert_eq!(wrap(&unwrapped, &image, &parameters).unwrap(), wrapped);
        }

        #[test]
        fn any_damage_is_refused_or_wrapped_validly(
            kernel in kernels(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            near in prop::collection::vec((0usize..0x270, any::<u8>()), 0..3), cut in any::<prop::sample::Index>(),
            cuts: bool, wrapped: bool,
        ) {
            let mut file = kernel.build();
            if wrapped {
                file = wrap_default(&file);
            }
            for (index, value) in flips {
                let at = index.index(file.len());
                file[at] = value;
            }
            for (at, value) in near {
                file[at] = value;
            }
            if cuts {
                file.truncate(cut.index(file.len()));
            }
            let _ = (unwrap(&file), embedded_parameters(&file), unhook_all(&file), as_built(&file));
            if let Ok(wrapped) = wrap(&file, &image(700, 0x8000), "") {
                prop_assert!(BzImage::parse(&wrapped).unwrap().is_wrapped());
                prop_assert!(unwrap(&wrapped).is_ok());
            }
        }
    }
}
