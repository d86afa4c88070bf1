//! What is loaded, whoever has loaded it: plain, wrapped, or with the image as its purgatory; which kernel, with which
//! command line, initial RAM disk and parameters. It is read from what the kernel holds (`kimage`) and compared with the
//! files that it can be of. What does not match is unknown.
//!
//! Both system calls, and all loaders, put the same things into memory: the protected-mode part of the kernel's file, the
//! initial RAM disk, and boot_params, which has the kernel's setup header and says where command line and initial RAM disk
//! are (`Documentation/arch/x86/boot.rst`).

use super::{
    file::{self, Source, Take},
    kimage::{KImage, Segment, hex},
    sign,
};
use crate::sort;
use lastwords_boot::{self as boot, BzImage, SETUP_MAX, SetupHeader, Uki, Unhooked};
use lastwords_core::{abi::MAGIC, cmdline, plan::PREFIX};
use sha2::{Digest, Sha256};
use std::{
    fs,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// boot_params is as long as a page (`zero-page.rst`).
const BOOT_PARAMS_LEN: u64 = 4096;
/// Offsets in boot_params: the lower and the upper 32 bits.
const CMD_LINE_PTR: [usize; 2] = [0x228, 0x0c8];
const RAMDISK_IMAGE: [usize; 2] = [0x218, 0x0c0];
const RAMDISK_SIZE: [usize; 2] = [0x21c, 0x0c4];
/// No command line is longer.
const CMDLINE_MAX: u64 = 64 << 10;
/// No signature is longer.
const SIGNATURE_MAX: u64 = 64 << 10;
/// No kernel is longer, packed.
const KERNEL_MAX: u64 = 256 << 20;
/// Files that are looked at, at most.
const FILES_MAX: usize = 256;
/// Pieces of an initial RAM disk that are compared, and their length. It is packed, so another one differs in most bytes.
const PIECES: u64 = 64;
const PIECE: u64 = 4096;

/// What is known of what is loaded.
#[derive(Debug)]
pub enum Seen {
    /// The kernel does not show it.
    Hidden,
    /// No kernel that is understood; the record's checksum.
    Other(String),
    /// This.
    Held(Box<Held>),
}

impl Seen {
    /// The record's checksum, where the kernel shows it.
    #[must_use]
    pub fn checksum(&self) -> Option<&str> {
        match self {
            Self::Hidden => None,
            Self::Other(checksum) => Some(checksum),
            Self::Held(held) => Some(&held.checksum),
        }
    }
}

/// How panic reporting is in what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not at all.
    Plain,
    /// Wrapped into the dump kernel.
    Wrapped,
    /// As its purgatory.
    Purgatory,
}

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The record's checksum: a kernel that is loaded later has another one.
    pub checksum: String,
    /// How panic reporting is in it.
    pub kind: Kind,
    /// Loaded by kexec_file_load(2)?
    pub by_file: bool,
    /// Is there no dump kernel, but what resets the machine?
    pub alone: bool,
    /// The image in it.
    pub image: Option<Image>,
    /// The dump kernel's command line.
    pub cmdline: String,
    /// The file it is of, where that is known.
    pub kernel: Option<Kernel>,
    /// The initial RAM disk, where there is one.
    pub initrd: Option<Initrd>,
}

/// The image in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Embedded parameters; the error of an image that is corrupt or of an unknown version.
    pub parameters: Result<String, boot::Error>,
    /// SHA-256 of the image as it was built, as `lastwords --version` has it. Older ones have none.
    pub checksum: Option<String>,
}

/// The dump kernel's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its path.
    pub path: PathBuf,
    /// Its release, as `uname -r` has it.
    pub release: Option<String>,
    /// Is it the file itself that is loaded, or has it been wrapped since?
    pub itself: bool,
    /// By whom what is loaded is signed, where it is.
    pub signed: Option<String>,
}

/// The initial RAM disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initrd {
    /// Bytes.
    pub size: u64,
    /// Its file, where that is known.
    pub path: Option<PathBuf>,
}

/// Looks at what is loaded. `named`: the file that is said to be.
pub fn look(root: &Path, named: Option<&Path>) -> Seen {
    let Some(image) = KImage::read(root) else { return Seen::Hidden };
    match held(root, &image, named) {
        Some(held) => Seen::Held(Box::new(held)),
        None => Seen::Other(image.checksum),
    }
}

impl Held {
    /// The words of embedded parameters and command line that the image reads, in their order. `None` where no image is, or
    /// none whose parameters are known.
    pub fn lines(&self) -> Option<[&str; 2]> {
        let embedded = self.image.as_ref()?.parameters.as_ref().ok()?;
        Some([embedded, &self.cmdline])
    }

    /// `purgatory (kexec_load)`.
    pub fn method(&self) -> String {
        let call = if self.by_file { "kexec_file_load" } else { "kexec_load" };
        let name = match self.kind {
            Kind::Plain => "plain kdump",
            Kind::Wrapped => "wrap",
            Kind::Purgatory => "purgatory",
        };
        format!("{name} ({call})")
    }
}

/// Our parameters in these lines.
pub fn parameters<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let words = lines.into_iter().flat_map(cmdline::words).filter(|word| word.starts_with(PREFIX));
    words.collect::<Vec<_>>().join(" ")
}

fn held(root: &Path, image: &KImage, named: Option<&Path>) -> Option<Held> {
    let segments = &image.segments;
    let (params, header) = segments.iter().find_map(|segment| {
        let start = segment.data.start;
        let params = image.bytes(start..start.checked_add(BOOT_PARAMS_LEN)?)?;
        let header = SetupHeader::parse(&params)?;
        Some((params, header))
    })?;
    let initrd_at = pointer(&params, RAMDISK_IMAGE)?;
    let initrd = initrd_at..initrd_at.checked_add(pointer(&params, RAMDISK_SIZE)?)?;
    // The paragraph that is counted last may not be whole; behind it there may be a signature.
    let fits = |segment: &&Segment| {
        let (len, least) = (segment.data.end - segment.data.start, header.syssize as u64);
        (least.saturating_sub(15)..=least + SIGNATURE_MAX).contains(&len)
            && len <= KERNEL_MAX
            && segment.data.start != initrd.start
            && segment.memory_size >= len
    };
    // What stands for no dump kernel is short: the image, say, may be as long as it with a signature.
    let is_alone = |segment: &&Segment| {
        let start = segment.data.start;
        let head = image.bytes(start..segment.data.end.min(start + BOOT_PARAMS_LEN));
        head.is_some_and(|head| boot::is_alone(&head))
    };
    let alone = segments.iter().find(is_alone);
    let segment = alone.or_else(|| segments.iter().filter(fits).max_by_key(|segment| segment.memory_size))?;
    let start = segment.data.start;
    let len = usize::try_from(segment.data.end - start).ok()?;
    let read = |range: Range<usize>| image.bytes(start + range.start as u64..start + range.end as u64);
    let unhooked = boot::unhook(read, len);
    let purgatory =
        segments.iter().filter(|segment| segment.data.contains(&image.entry)).find_map(|segment| {
            let bytes = image.bytes(segment.data.clone())?;
            bytes.starts_with(&MAGIC).then(|| Image::new(&bytes))
        });
    let (kind, reporting, own) = match (purgatory, unhooked) {
        (Some(image), _) => (Kind::Purgatory, Some(image), None),
        (None, Ok(None)) => (Kind::Plain, None, None),
        (None, Ok(Some(Unhooked { len, head, image }))) => {
            (Kind::Wrapped, Some(Image::new(&image)), Some((len, head)))
        }
        (None, Err(error)) => (Kind::Wrapped, Some(Image { parameters: Err(error), checksum: None }), None),
    };
    Some(Held {
        checksum: image.checksum.clone(),
        kind,
        by_file: segment.by_file,
        alone: alone.is_some(),
        image: reporting,
        cmdline: command_line(image, &params)?,
        kernel: kernel(root, named, &Loaded { image, start, len, own }),
        initrd: (!initrd.is_empty())
            .then(|| Initrd { size: initrd.end - initrd.start, path: initrd_file(root, image, &initrd) }),
    })
}

/// A kernel's protected-mode part, as the kernel holds it.
struct Loaded<'a> {
    image: &'a KImage,
    start: u64,
    len: usize,
    /// The length and the beginning that it had before it was wrapped.
    own: Option<(usize, Vec<u8>)>,
}

impl Loaded<'_> {
    /// Is it this one?
    fn is(&self, bytes: &[u8]) -> bool {
        self.len == bytes.len() && self.image.holds(self.start, bytes)
    }

    /// Was it this one, before it was wrapped?
    fn was(&self, bytes: &[u8]) -> bool {
        let Some((len, head)) = &self.own else { return false };
        let rest = bytes.strip_prefix(&head[..]);
        *len == bytes.len() && rest.is_some_and(|rest| self.image.holds(self.start + head.len() as u64, rest))
    }
}

impl Image {
    fn new(bytes: &[u8]) -> Self {
        match boot::as_built(bytes) {
            Ok(built) => Self {
                parameters: boot::image_parameters(bytes),
                checksum: Some(hex(&Sha256::digest(built))),
            },
            // Its sum is elsewhere.
            Err(boot::Error::OtherVersion(_)) => {
                Self { parameters: boot::image_parameters(bytes), checksum: None }
            }
            Err(error) => Self { parameters: Err(error), checksum: None },
        }
    }
}

fn pointer(params: &[u8], [low, high]: [usize; 2]) -> Option<u64> {
    let half = |at: usize| Some(u64::from(u32::from_le_bytes(*params.get(at..)?.first_chunk()?)));
    Some(half(high)? << 32 | half(low)?)
}

fn command_line(image: &KImage, params: &[u8]) -> Option<String> {
    let start = pointer(params, CMD_LINE_PTR)?;
    let segment = image.segments.iter().find(|segment| segment.data.contains(&start))?;
    let bytes = image.bytes(start..segment.data.end.min(start + CMDLINE_MAX))?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).trim().to_owned())
}

/// The file whose protected-mode part is what is `loaded`; else the one whose is the kernel in it, before it was wrapped.
fn kernel(root: &Path, named: Option<&Path>, loaded: &Loaded<'_>) -> Option<Kernel> {
    let folders = [
        ("var/lib/kdump/lastwords", &["vmlinuz-"][..]),
        ("boot", &["vmlinuz", "kernel", "bzImage"]),
        ("var/lib/kdump", &["vmlinuz", "kernel"]),
    ];
    let mut files = said(root, named, &["/vmlinuz", "/kernel", "/bzImage"]);
    files.extend(folders.iter().flat_map(|(folder, names)| listed(&root.join(folder), names)));
    let modules = listed(&root.join("lib/modules"), &[""]);
    files.extend(modules.into_iter().map(|folder| folder.join("vmlinuz")));
    let mut wrapped_since = None;
    for path in unique(files) {
        let Some(kernel) = compare(root, &path, loaded) else { continue };
        if kernel.itself {
            return Some(kernel);
        }
        wrapped_since.get_or_insert(kernel);
    }
    wrapped_since
}

/// Is what is loaded this file's, or a part of a unified kernel image's?
fn compare(root: &Path, path: &Path, loaded: &Loaded<'_>) -> Option<Kernel> {
    let source = Source::open(path).ok()?;
    let is_uki = file::begins(&source.file, boot::is_uki);
    let mut head = vec![0; SETUP_MAX];
    let read = source.file.read_at(&mut head, 0).ok()?;
    let setup_len = SetupHeader::parse(&head[..read]).map_or(0, |header| header.setup_len as u64);
    let may_be = |part: usize| {
        let part = part as u64;
        let whole = source.len.saturating_sub(setup_len);
        if is_uki { part < whole } else { (part..=part.saturating_add(SIGNATURE_MAX)).contains(&whole) }
    };
    if !may_be(loaded.len) && !loaded.own.as_ref().is_some_and(|(len, _)| may_be(*len)) {
        return None;
    }
    let bytes = source.bytes(Take::Mapped).ok()?;
    let kernel = Uki::parse(&bytes).ok()?.map_or(&bytes[..], |uki| uki.linux);
    let header = SetupHeader::parse(kernel)?;
    let with_signature = kernel.get(header.setup_len..)?;
    let unsigned = BzImage::parse(kernel).ok()?.protected_mode(kernel);
    let is_whole = loaded.is(with_signature);
    let itself = is_whole || loaded.is(unsigned);
    let signed = (is_whole && unsigned != with_signature).then(|| sign::signed_by(kernel));
    let is_it = itself || loaded.was(unsigned);
    let kernel = Kernel { path: shown(root, path), release: header.release, itself, signed };
    is_it.then_some(kernel)
}

/// The file of an initial RAM disk of which pieces are compared.
fn initrd_file(root: &Path, image: &KImage, range: &Range<u64>) -> Option<PathBuf> {
    let size = range.end - range.start;
    let is_it = |path: &PathBuf| {
        let compare = || {
            let (file, len) = file::open(path).ok()?;
            (len == size).then_some(())?;
            // The first and the last one among them.
            let piece = |number: u64| {
                let last = size.saturating_sub(PIECE);
                let from =
                    u64::try_from(u128::from(last) * u128::from(number) / u128::from(PIECES - 1)).ok()?;
                let mut there = vec![0; usize::try_from(PIECE.min(size)).ok()?];
                file.read_exact_at(&mut there, from).ok()?;
                let start = range.start.checked_add(from)?;
                let held = image.bytes(start..start.checked_add(there.len() as u64)?)?;
                (held == there).then_some(())
            };
            (0..PIECES).try_for_each(piece)
        };
        compare().is_some()
    };
    let mut files = said(root, None, &["/init", "="]);
    for folder in ["var/lib/kdump", "boot"] {
        files.extend(listed(&root.join(folder), &["init"]));
    }
    unique(files).into_iter().find(is_it).map(|path| shown(root, &path))
}

/// Files that somebody has named: the one that we have loaded, and those in the last command of Debian's kdump-config.
fn said(root: &Path, named: Option<&Path>, names: &[&str]) -> Vec<PathBuf> {
    let command = fs::read_to_string(root.join("var/crash/kexec_cmd")).unwrap_or_default();
    let words =
        command.split_whitespace().map(|word| word.split_once("--initrd=").map_or(word, |(_, path)| path));
    let paths = words.filter(|word| word.starts_with('/') && names.iter().any(|name| word.contains(name)));
    let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    named.map(below).into_iter().chain(paths.map(|path| below(Path::new(path)))).collect()
}

/// What is in a folder and is called like this, sorted.
fn listed(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_called = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        names.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(is_called).collect();
    sort::all(&mut paths);
    paths
}

/// Each file once, by its own name, in the same order.
fn unique(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        match fs::canonicalize(&path) {
            Ok(path) if path.is_file() && !files.contains(&path) && files.len() < FILES_MAX => {
                files.push(path);
            }
            _ => {}
        }
    }
    files
}

/// A path as it is without the `root`.
fn shown(root: &Path, path: &Path) -> PathBuf {
    let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    path.strip_prefix(&root).map_or_else(|_| path.to_owned(), |path| Path::new("/").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::{
        image::{CHECKSUM, IMAGE},
        kimage::tests::{RESERVED, hold_segments},
    };
    use lastwords_boot::synthetic;
    use lastwords_core::abi;

    const USER: u64 = 0x7f20_b2e2_8010;
    const KERNEL: u64 = 0xffff_c900_0012_3000;

    /// A kernel file of this release, one that could be wrapped with the real image.
    fn file(release: &str) -> Vec<u8> {
        let mut file = synthetic::Kernel::default().build();
        file[0x20e..0x210].copy_from_slice(&0x400u16.to_le_bytes());
        let text = format!("{release} (root@example) #1 SMP\0");
        file[0x600..][..text.len()].copy_from_slice(text.as_bytes());
        file[0x3000..][..release.len()].copy_from_slice(release.as_bytes());
        file
    }

    fn put(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// boot_params as a loader makes them of this kernel, the command line behind it.
    fn params(kernel: &[u8], at: u64, cmdline: &str, initrd: Range<u64>) -> Vec<u8> {
        let mut params = vec![0; 4096];
        params[0x1f1..0x268].copy_from_slice(&kernel[0x1f1..0x268]);
        // As kexec-tools do.
        params[0x1ff] = 0;
        for (offset, value) in [
            (0x228, RESERVED + at + 4096),
            (0x218, RESERVED + initrd.start),
            (0x21c, initrd.end - initrd.start),
        ] {
            params[offset..offset + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
        }
        params.extend(cmdline.as_bytes());
        params.push(0);
        params
    }

    const PARAMS_AT: u64 = 0x2000;
    const INITRD_AT: u64 = 0x4000;
    const KERNEL_AT: u64 = 0x10_0000;

    /// Holds this kernel's file with an initial RAM disk, as stock loaders do it.
    fn load(root: &Path, buffer: u64, kernel: &[u8], initrd: &[u8]) {
        let range = INITRD_AT..INITRD_AT + initrd.len() as u64;
        let params = params(kernel, PARAMS_AT, "quiet lastwords.budget=9", range);
        let setup_len = SetupHeader::parse(kernel).unwrap().setup_len;
        let segments = [
            (0, &b"a purgatory"[..]),
            (PARAMS_AT, &params),
            (INITRD_AT, initrd),
            (KERNEL_AT, &kernel[setup_len..]),
        ];
        let segments: Vec<_> = segments.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        hold_segments(root, buffer, 0, &segments);
    }

    fn seen(root: &Path) -> Held {
        match look(root, None) {
            Seen::Held(held) => *held,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_kernel_is_told_from_others_in_boot() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "boot/vmlinuz-6.1", &file("6.1"));
        put(root, "boot/vmlinuz-6.2", &file("6.2"));
        put(root, "var/lib/kdump/initrd.img-6.1", &[7; 9000]);
        put(root, "var/lib/kdump/initrd.img-6.2", &[8; 9000]);
        for (buffer, method) in
            [(USER, "plain kdump (kexec_load)"), (KERNEL, "plain kdump (kexec_file_load)")]
        {
            load(root, buffer, &file("6.2"), &[8; 9000]);
            let held = seen(root);
            let kernel = held.kernel.clone().unwrap();
            assert_eq!(
                (kernel.path.to_str(), kernel.release.as_deref()),
                (Some("/boot/vmlinuz-6.2"), Some("6.2"))
            );
            assert_eq!(
                held.initrd.clone().unwrap().path.unwrap().to_str(),
                Some("/var/lib/kdump/initrd.img-6.2")
            );
            assert_eq!((held.method().as_str(), held.lines()), (method, None));
            assert_eq!(held.cmdline, "quiet lastwords.budget=9");
        }
    }

    #[test]
    fn a_kernel_whose_file_has_changed_or_gone_is_none_of_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        load(root, USER, &file("6.1"), &[8; 9000]);
        assert_eq!(seen(root).kernel, None);
        put(root, "boot/vmlinuz-6.1", &file("6.1"));
        assert!(seen(root).kernel.is_some());
        let mut changed = file("6.1");
        *changed.last_mut().unwrap() ^= 1;
        put(root, "boot/vmlinuz-6.1", &changed);
        assert_eq!(seen(root).kernel, None);
        put(root, "boot/initrd", &[8; 8999]);
        assert_eq!(seen(root).initrd, Some(Initrd { size: 9000, path: None }));
        let mut other = [8; 9000];
        other[8999] = 9;
        put(root, "boot/initrd", &other);
        assert_eq!(seen(root).initrd.unwrap().path, None);
        load(root, USER, &file("6.1"), &[]);
        assert_eq!(seen(root).initrd, None);
    }

    #[test]
    fn a_wrapped_kernel_is_known_with_its_parameters_as_a_file_and_by_the_kernel_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let wrapped = boot::wrap(&file("6.1"), &IMAGE, "lastwords.ipmi_handle_panic").unwrap();
        load(root, KERNEL, &wrapped, &[]);
        put(root, "boot/vmlinuz-6.1", &file("6.1"));
        let held = seen(root);
        assert_eq!((held.kind, held.method().as_str()), (Kind::Wrapped, "wrap (kexec_file_load)"));
        assert_eq!(held.lines(), Some(["lastwords.ipmi_handle_panic", "quiet lastwords.budget=9"]));
        assert_eq!(parameters(held.lines().unwrap()), "lastwords.ipmi_handle_panic lastwords.budget=9");
        // The image as `lastwords --version` has it.
        assert_eq!(held.image.unwrap().checksum.as_deref(), Some(CHECKSUM));
        let kernel = held.kernel.unwrap();
        assert_eq!((kernel.path.to_str(), kernel.itself), (Some("/boot/vmlinuz-6.1"), false));
        put(root, "var/lib/kdump/lastwords/vmlinuz-6.1", &wrapped);
        let kernel = seen(root).kernel.unwrap();
        assert_eq!(kernel.path.to_str(), Some("/var/lib/kdump/lastwords/vmlinuz-6.1"));
        assert_eq!((kernel.release.as_deref(), kernel.itself), (Some("6.1"), true));
    }

    #[test]
    fn a_wrapped_kernel_whose_image_was_written_to_has_no_parameters() {
        let folder = tempfile::tempdir().unwrap();
        let mut wrapped = boot::wrap(&file("6.1"), &IMAGE, "lastwords.ipmi_handle_panic").unwrap();
        let image = wrapped.windows(8).rposition(|bytes| bytes == MAGIC).unwrap();
        wrapped[image + abi::PARAMETERS] ^= 1;
        load(folder.path(), KERNEL, &wrapped, &[]);
        let held = seen(folder.path());
        assert_eq!((held.kind, held.lines()), (Kind::Wrapped, None));
    }

    #[test]
    fn the_image_is_the_purgatory_only_where_the_kernel_jumps_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let kernel = file("6.1");
        let params = params(&kernel, PARAMS_AT, "quiet", 0..0);
        let mut image = IMAGE.to_vec();
        boot::fill_in(&mut image, &abi::WayOut::of_purgatory(1, 2), "lastwords.ipmi_handle_panic", &[3; 16]);
        let image_at = 0x20_0000;
        for (entry, kind) in [(image_at + 0x500, Kind::Purgatory), (0, Kind::Plain)] {
            let segments = [
                (0, &b"a purgatory"[..]),
                (PARAMS_AT, &params),
                (KERNEL_AT, &kernel[4096..]),
                (image_at, &image),
            ];
            hold_segments(root, USER, entry, &segments);
            assert_eq!(seen(root).kind, kind);
        }
        hold_segments(
            root,
            USER,
            image_at + 0x500,
            &[(PARAMS_AT, &params), (KERNEL_AT, &kernel[4096..]), (image_at, &image)],
        );
        let held = seen(root);
        assert_eq!(held.lines(), Some(["lastwords.ipmi_handle_panic", "quiet"]));
        assert_eq!(held.image.unwrap().checksum.as_deref(), Some(CHECKSUM));
    }

    #[test]
    fn what_is_no_kernel_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(matches!(look(root, None), Seen::Hidden));
        hold_segments(root, USER, 0, &[(0, b"something"), (0x2000, &[0x55; 9000])]);
        assert!(matches!(look(root, None), Seen::Other(_)));
        // boot_params without its kernel; with a command line or an initial RAM disk that lies elsewhere.
        let kernel = file("6.1");
        let good = params(&kernel, PARAMS_AT, "quiet", 0..0);
        hold_segments(root, USER, 0, &[(PARAMS_AT, &good)]);
        assert!(matches!(look(root, None), Seen::Other(_)));
        let mut bad = good.clone();
        bad[0x228..0x22c].copy_from_slice(&0x1000u32.to_le_bytes());
        hold_segments(root, USER, 0, &[(PARAMS_AT, &bad), (KERNEL_AT, &kernel[4096..])]);
        assert!(matches!(look(root, None), Seen::Other(_)));
        hold_segments(root, USER, 0, &[(PARAMS_AT, &good), (KERNEL_AT, &kernel[4096..])]);
        assert!(matches!(look(root, None), Seen::Held(_)));
    }
}
