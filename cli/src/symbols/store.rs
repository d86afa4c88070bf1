//! The saved symbols in /var/lib/lastwords: of each of the last few kernels the text symbols, counted from `_stext` so
//! that they hold in any boot, as `BUILD-ID.z`; and of each of the last few boots the modules, at the addresses that
//! they had in that boot, as `BUILD-ID.BOOT-ID.z`. Both are text as in /proc/kallsyms, packed by zlib (RFC 1950).
//!
//! After a crash the machine boots and loads a dump kernel again: so the crash's boot is not the last one that was saved. It is found
//! by the time of the crash.
//!
//! Behind each is a checksum of all before it. A file that is damaged, or has none, is saved anew.
//!
//! The folder is root's (or the user's own), and nobody else can write to it: else whoever can would choose what root writes
//! over and what the names in a report are. In it only plain files of the same owner count; whatever else stands where one of
//! ours belongs is replaced, never followed or opened for writing.

use super::{
    boots::{Boot, Symbols},
    build_id::{self, running_build_id},
    file,
    stream::{self, Modules},
    table::{self, Table},
};
use crate::{message::path as shown, sort, sys};
use anyhow::{Context, Result, bail};
use flate2::{Compression, bufread::ZlibDecoder, write::ZlibEncoder};
use lastwords_core::digest;
use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};
use tempfile::NamedTempFile;

/// Where they are, and what else lastwords remembers.
pub const FOLDER: &str = "var/lib/lastwords";
/// Bytes that are read or written at a time.
const BUFFER: usize = 64 << 10;
/// More bytes than any of ours has.
const MOST: u64 = 16 << 20;
/// How many kernels' and how many boots' are kept.
const KEPT: usize = 5;

/// Saves the running kernel's symbols, and returns where.
///
/// # Errors
/// When the kernel hides them, or they cannot be written. What was saved before is still there.
pub fn save(root: &Path) -> Result<PathBuf> {
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("/{path}"));
    let notes = fs::read(root.join("sys/kernel/notes")).context("/sys/kernel/notes")?;
    let build_id = build_id::hex(build_id::find(&notes).context("the running kernel has no build id")?);
    let boot_id = read("proc/sys/kernel/random/boot_id")?;
    let release = read("proc/sys/kernel/osrelease")?;
    let booted = read("proc/stat")?;
    let booted = booted.lines().find_map(|line| line.strip_prefix("btime ")).unwrap_or_default();
    // A kernel without modules has no such file.
    let modules = fs::read_to_string(root.join("proc/modules")).unwrap_or_default();

    let folder = folder(root)?;
    let kernel = folder.join(format!("{build_id}.z"));
    let boot = folder.join(format!("{build_id}.{}.z", boot_id.trim()));
    // One build id, one table. One that has other names, too, is replaced like whatever is none.
    let plain = |path: &Path| {
        open(path).ok().filter(|file| file.metadata().is_ok_and(|file| file.nlink() == 1) && is_sealed(file))
    };
    let note = format!("# modules {}", boot_checksum(booted, &modules));
    let (saved, saved_boot) = (plain(&kernel), plain(&boot).filter(|boot| has_note(boot, &note)));
    if saved.is_none() || saved_boot.is_none() {
        let head = head(&build_id, &release);
        let mut kernel = saved.is_none().then(|| Packed::new(&kernel, &head)).transpose()?;
        let mut boot = Packed::new(&boot, &format!("{head}{note}\n# booted {booted}\n"))?;
        let writer = kernel.as_mut().map(|kernel| &mut kernel.writer as &mut dyn Write);
        let kallsyms = BufReader::with_capacity(BUFFER, File::open(root.join("proc/kallsyms"))?);
        stream::split(kallsyms, &Modules::parse(&modules), writer, &mut boot.writer)
            .context("/proc/kallsyms")?;
        kernel.map(Packed::finish).transpose()?;
        boot.finish()?;
    }
    // The newest are kept, and the last one of a boot counts.
    for (file, path) in [(saved, &kernel), (saved_boot, &boot)] {
        file.map_or(Ok(()), |file| file.set_modified(SystemTime::now())).with_context(|| shown(path))?;
    }
    prune(&folder);
    Ok(kernel)
}

/// A checksum of what is saved of a boot: its beginning, which is another one when the clock is set, and the modules, where
/// they are, and whether they have started; how many use them makes no difference.
fn boot_checksum(booted: &str, modules: &str) -> String {
    let lines = modules.lines().map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [name, size, _, _, state, start, ..] = words[..] else { return line.to_owned() };
        [name, size, state, start].join(" ")
    });
    let text = lines.fold(booted.to_owned(), |text, line| text + "\n" + &line);
    build_id::hex(&digest::lanes(text.as_bytes()))
}

/// What stands behind a saved file's bytes.
fn seal(bytes: &[u8]) -> String {
    build_id::hex(&digest::lanes(bytes))
}

/// Is a saved file what was saved?
fn is_sealed(mut file: &File) -> bool {
    let mut is_sealed = || -> io::Result<bool> {
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        let body = bytes.len().checked_sub(seal(&[]).len()).and_then(|at| bytes.split_at_checked(at));
        file.rewind()?;
        Ok(body.is_some_and(|(body, end)| seal(body).as_bytes() == end))
    };
    is_sealed().unwrap_or(false)
}

/// Does a saved file have this note in its head?
fn has_note(file: &File, note: &str) -> bool {
    let mut lines = BufReader::new(ZlibDecoder::new(BufReader::new(file))).lines().map_while(Result::ok);
    lines.by_ref().take_while(|line| line.starts_with('#')).any(|line| line == note)
}

/// The addresses of `_stext` and of a variable of the running kernel's, where they were saved in this boot.
pub fn variable(root: &Path, variable: &str) -> Option<[u64; 2]> {
    let folder = root.join(FOLDER);
    check(&folder).ok()?;
    let boot_id = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).ok()?;
    let name = format!("{}.{}.z", running_build_id(root)?, boot_id.trim());
    let file = open(&folder.join(name)).ok()?;
    let mut stext = None;
    for line in BufReader::new(ZlibDecoder::new(BufReader::new(file))).lines() {
        let line = line.ok()?;
        if let Some(address) = line.strip_suffix(" T _stext") {
            stext = Some(table::address(address)?);
        } else if let Some(note) = line.strip_prefix("# variable ") {
            if let Some(address) = note.strip_prefix(variable).and_then(|rest| rest.strip_prefix(' ')) {
                return Some([stext?, table::address(address)?]);
            }
        } else if !line.starts_with('#') {
            return None;
        }
    }
    None
}

/// The folder, made where there is none.
///
/// # Errors
/// When it cannot be made, or others than root can write to it.
pub fn folder(root: &Path) -> Result<PathBuf> {
    let folder = root.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o755).create(&folder).with_context(|| shown(&folder))?;
    check(&folder)?;
    Ok(folder)
}

/// What a plain file of root's in the folder, or in one below it, holds.
///
/// # Errors
/// When there is none, or others can write to the folder.
pub fn read(root: &Path, name: &str) -> Result<Vec<u8>> {
    let folder = root.join(FOLDER);
    check(&folder)?;
    let path = folder.join(name);
    let mut bytes = Vec::new();
    open(&path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)).with_context(|| shown(&path))?;
    Ok(bytes)
}

/// Is it root's or our own, and can nobody else write to it?
fn is_safe(owner: u32, mode: u32, us: u32) -> bool {
    /// Write permission for group and others.
    const OTHERS: u32 = 0o022;
    [0, us].contains(&owner) && mode & OTHERS == 0
}

/// Is what was found safe, and a plain file?
fn is_safe_file(file: &Metadata) -> bool {
    file.is_file() && is_safe(file.uid(), file.mode(), sys::effective_user())
}

/// Checks the folder, and the link to it where it is one.
fn check(folder: &Path) -> Result<()> {
    let us = sys::effective_user();
    let (link, is) = (fs::symlink_metadata(folder), fs::metadata(folder));
    let (link, is) = (link.with_context(|| shown(folder))?, is.with_context(|| shown(folder))?);
    // A link has no permissions of its own: who can replace it is its folder's.
    let links = [0, us].contains(&link.uid());
    if !links || !is_safe(is.uid(), is.mode(), us) {
        let folder = shown(folder);
        bail!(
            "{folder}: not used, others than root can write to it\n\
             hint: remove what is in it, then chown root:root {folder}; chmod 755 {folder}"
        );
    }
    Ok(())
}

/// Opens a saved file: never a link, and never one that hangs.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !is_safe_file(&file.metadata()?) {
        return Err(io::Error::other("not a plain file of root's"));
    }
    Ok(file)
}

/// Reads a saved file.
fn load(path: &Path) -> Result<Table> {
    open(path).map_err(Into::into).and_then(|file| file::read(&file)).with_context(|| shown(path))
}

/// The notes at the beginning of a saved table.
fn head(build_id: &str, release: &str) -> String {
    format!("# build-id {build_id}\n# release {}\n", release.trim())
}

/// A packed file that is there whole or not at all, whenever the machine dies.
struct Packed<'a> {
    path: &'a Path,
    writer: BufWriter<ZlibEncoder<NamedTempFile>>,
}

impl<'a> Packed<'a> {
    fn new(path: &'a Path, head: &str) -> Result<Self> {
        let folder = path.parent().context("a file in a folder")?;
        let new = || -> io::Result<_> {
            // For root alone: the addresses are what KASLR hides.
            let packed = ZlibEncoder::new(NamedTempFile::new_in(folder)?, Compression::fast());
            let mut writer = BufWriter::with_capacity(BUFFER, packed);
            writer.write_all(head.as_bytes())?;
            Ok(Self { path, writer })
        };
        new().with_context(|| shown(path))
    }

    fn finish(self) -> Result<()> {
        let finish = || -> io::Result<()> {
            let mut file = self.writer.into_inner()?.finish()?;
            file.rewind()?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            file.write_all(seal(&bytes).as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(self.path)?;
            Ok(())
        };
        finish().with_context(|| shown(self.path))
    }
}

/// Removes all but the newest kernels and boots.
fn prune(folder: &Path) {
    let mut saved = list(folder);
    sort::by_key(&mut saved, |saved| std::cmp::Reverse(saved.modified));
    let (boots, kernels): (Vec<_>, Vec<_>) = saved.iter().partition(|saved| saved.is_boot);
    for saved in boots.iter().skip(KEPT).chain(kernels.iter().skip(KEPT)) {
        // Too many files do no harm.
        let _ = fs::remove_file(&saved.path);
    }
}

/// A saved file.
struct Saved {
    path: PathBuf,
    build_id: String,
    boot_id: String,
    is_boot: bool,
    modified: SystemTime,
}

/// The saved files that a folder has, plain ones that nobody else can have written.
fn list(folder: &Path) -> Vec<Saved> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let saved = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (build_id, boot_id) = {
            // Older versions packed them with gzip.
            let stem = name.strip_suffix(".z").or_else(|| name.strip_suffix(".gz"))?;
            stem.split_once('.').unwrap_or((stem, ""))
        };
        table::bytes(build_id).filter(|id| !id.is_empty())?;
        // Of a link its own.
        let metadata = entry.metadata().ok().filter(is_safe_file)?;
        Some(Saved {
            build_id: build_id.to_owned(),
            boot_id: boot_id.to_owned(),
            is_boot: !boot_id.is_empty(),
            path: entry.path(),
            modified: metadata.modified().ok()?,
        })
    });
    saved.collect()
}

impl Symbols {
    /// Those that were saved here for the kernel whose build id begins so; else, when that kernel runs here again, its
    /// own without the modules, which are elsewhere in each boot.
    ///
    /// # Errors
    /// When they are there and cannot be read.
    pub fn find(root: &Path, build_id: u32) -> Result<Option<Self>> {
        let folder = root.join(FOLDER);
        if fs::symlink_metadata(&folder).is_ok() {
            check(&folder)?;
        }
        let mut saved = list(&folder);
        saved.retain(|saved| saved.build_id.starts_with(&format!("{build_id:08x}")));
        let Some(kernel) = saved.iter().filter(|saved| !saved.is_boot).max_by_key(|saved| saved.modified)
        else {
            return Ok(Self::running(root, build_id));
        };
        let mut boots = Vec::new();
        for boot in saved.iter().filter(|boot| boot.is_boot && boot.build_id == kernel.build_id) {
            // Without one of them there are still the kernel's.
            if let Ok(table) = load(&boot.path) {
                boots.push(Boot { id: boot.boot_id.clone(), table });
            }
        }
        Ok(Some(Self { kernel: load(&kernel.path)?, boots }))
    }

    fn running(root: &Path, build_id: u32) -> Option<Self> {
        let id = running_build_id(root).filter(|id| id.starts_with(&format!("{build_id:08x}")))?;
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let release = read("proc/sys/kernel/osrelease")?;
        let kallsyms = BufReader::with_capacity(BUFFER, File::open(root.join("proc/kallsyms")).ok()?);
        let mut text = head(&id, &release).into_bytes();
        stream::split(kallsyms, &Modules::default(), Some(&mut text), &mut io::sink()).ok()?;
        let kernel = Table::read(&text[..]).ok()?;
        Some(Self { kernel, boots: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::boots::{OtherBoot, When};
    use std::{
        os::unix::fs::{PermissionsExt, symlink},
        process::Command,
        time::Duration,
    };

    const BUILD_ID: [u8; 20] = *b"\x5f\x3e\x9a\x1bbuild-id-of-ours";
    const ID: u32 = 0x5f3e9a1b;

    /// A boot of a kernel, with one module at this address.
    fn boot(root: &Path, build_id: &[u8], boot_id: &str, booted: i64, kaslr: u64, module: u64) {
        let mut notes = [6u32, 4, 0x100].map(u32::to_ne_bytes).concat();
        notes.extend(b"Linux\0\0\0\x01\0\0\0");
        notes.extend([4, build_id.len() as u32, 3].map(u32::to_ne_bytes).concat());
        notes.extend(b"GNU\0");
        notes.extend(build_id);
        let kallsyms = format!(
            "{kaslr:x} T _stext\n{:x} t do_one\n{:x} T _etext\n{module:x} t deaf\t[spin]\n{:x} t x\t[gone]\n{:x} t start\t[spin]\n",
            kaslr + 0x10,
            kaslr + 0x100,
            module + 0x4000,
            module + 0x80000
        );
        for (path, bytes) in [
            ("sys/kernel/notes", notes),
            ("proc/sys/kernel/random/boot_id", format!("{boot_id}\n").into()),
            ("proc/sys/kernel/osrelease", "6.1.0-56-amd64\n".into()),
            ("proc/stat", format!("cpu 1 2\nbtime {booted}\n").into()),
            ("proc/kallsyms", kallsyms.into()),
            ("proc/modules", format!("spin 8192 0 - Live {module:#x} (OE)\n").into()),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    fn name(symbols: &Symbols, address: u64, time: Option<i64>, running: Option<&str>) -> String {
        match symbols.address(address, When { time, running }) {
            Ok(Some(name)) => name.to_string(),
            Ok(None) => "-".to_owned(),
            Err(OtherBoot) => "another boot".to_owned(),
        }
    }

    #[test]
    fn what_is_damaged_is_saved_anew_in_the_same_boot() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        boot(root, &BUILD_ID, "aaaa", 1000, 0xffffffff81000000, 0xffffffffc0000000);
        let kernel = save(root).unwrap();
        let boot = kernel.with_file_name(format!("{}.aaaa.z", build_id::hex(&BUILD_ID)));
        for path in [&kernel, &boot] {
            let good = fs::read(path).unwrap();
            // Python agrees that it is whole, but for the checksum behind it.
            let zlib = "import sys, zlib; z = zlib.decompressobj(); z.decompress(open(sys.argv[1], 'rb').read()); assert z.eof; print(len(z.unused_data))";
            let python = Command::new("python3").args(["-c", zlib]).arg(path).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&python.stdout).trim(), seal(b"").len().to_string());
            let mut flipped = good.clone();
            flipped[good.len() / 2] ^= 1;
            let unsealed = &good[..good.len() - seal(b"").len()];
            for bad in [&[], &good[..good.len() - 1], &good[..good.len() / 2], &flipped, unsealed] {
                fs::write(path, bad).unwrap();
                save(root).unwrap();
                assert!(fs::read(path).unwrap() == good, "{}: {} bytes", path.display(), bad.len());
            }
            let before = fs::metadata(path).unwrap().ino();
            save(root).unwrap();
            assert_eq!(fs::metadata(path).unwrap().ino(), before);
        }
    }

    #[test]
    fn the_boot_that_crashed_is_found_among_those_saved() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(Symbols::find(root, ID).unwrap().is_none());
        boot(root, &BUILD_ID, "aaaa", 1000, 0xffffffff81000000, 0xffffffffc0000000);
        // Nothing is saved, but the same kernel runs again.
        let symbols = Symbols::find(root, ID).unwrap().unwrap();
        assert_eq!(symbols.kernel(0x12).unwrap().to_string(), "do_one+0x2");
        assert_eq!(name(&symbols, 0xffffffffc0000005, None, None), "-");
        assert_eq!(name(&symbols, 0xffffffff81000012, None, None), "-");
        assert!(Symbols::find(root, ID + 1).unwrap().is_none());
        save(root).unwrap();
        let symbols = Symbols::find(root, ID).unwrap().unwrap();
        assert_eq!(symbols.release(), Some("6.1.0-56-amd64"));
        assert_eq!(symbols.kernel(0x12).unwrap().to_string(), "do_one+0x2");
        assert!(symbols.kernel(0x100).is_none() && symbols.are_of(ID) && !symbols.are_of(ID + 1));
        // One boot is saved: it is the one, unless it is still running.
        assert_eq!(name(&symbols, 0xffffffffc0000005, None, None), "deaf+0x5 [spin]");
        assert_eq!(name(&symbols, 0xffffffffc0000005, None, Some("aaaa")), "another boot");
        assert_eq!(name(&symbols, 0xffffffff81000010, None, None), "do_one+0x0");
        // What /proc/modules does not have, and what lies behind a module.
        assert_eq!(name(&symbols, 0xffffffffc0004000, None, None), "-");
        assert_eq!(name(&symbols, 0xffffffffc0002000, None, None), "-");
        assert_eq!(name(&symbols, 0x12, None, None), "-");
        // What a module that is being loaded runs first, and throws away.
        assert_eq!(name(&symbols, 0xffffffffc0080007, None, None), "start+0x7 [spin]");

        // Later that boot loads its module elsewhere; the machine crashes, boots, loads again.
        boot(root, &BUILD_ID, "aaaa", 1000, 0xffffffff81000000, 0xffffffffc0100000);
        save(root).unwrap();
        boot(root, &BUILD_ID, "bbbb", 2000, 0xffffffffa2000000, 0xffffffffc0300000);
        let path = save(root).unwrap();
        let symbols = Symbols::find(root, ID).unwrap().unwrap();
        for (address, time, running, expected) in [
            (0xffffffffc0100005, Some(1999), None, "deaf+0x5 [spin]"),
            (0xffffffffc0300005, Some(1999), None, "-"),
            (0xffffffffc0300005, Some(2000), None, "deaf+0x5 [spin]"),
            (0xffffffffa2000011, Some(2000), None, "do_one+0x1"),
            // It was not in the running boot, even if the BMC's clock is ahead.
            (0xffffffffc0100005, Some(2500), Some("bbbb"), "deaf+0x5 [spin]"),
            (0xffffffffc0100005, Some(999), None, "another boot"),
            (0xffffffffc0100005, None, None, "another boot"),
            (0xffffffffc0100005, None, Some("bbbb"), "deaf+0x5 [spin]"),
            (0xffffffffc0000005, None, None, "-"),
        ] {
            assert_eq!(name(&symbols, address, time, running), expected, "{address:x} {time:?} {running:?}");
        }

        // A saved file can be named, too.
        assert_eq!(Symbols::open(&path).unwrap().kernel(0x12).unwrap().to_string(), "do_one+0x2");
        let all = Symbols::open(&root.join("proc/kallsyms")).unwrap();
        assert_eq!(name(&all, 0xffffffffc0300005, None, None), "deaf+0x5 [spin]");
        assert_eq!(name(&all, 0x12, None, None), "-");
    }

    #[test]
    fn what_was_saved_in_this_boot_is_not_packed_again_but_stays_the_newest() {
        /// What is changed, and which of the two files is packed again: the kernel's, the boot's.
        type Step<'a> = (&'a str, &'a dyn Fn(), [bool; 2]);
        let (root, _, kernel) = saved();
        let root = root.path();
        let boot_file = kernel.with_extension("aaaa.z");
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let modules = fs::read_to_string(root.join("proc/modules")).unwrap();
        let booted = |time: i64| fs::write(root.join("proc/stat"), format!("btime {time}\n")).unwrap();
        let module = |from: &str, to: &str| {
            fs::write(root.join("proc/modules"), modules.replace(from, to)).unwrap();
        };
        let steps: [Step<'_>; 8] = [
            ("nothing has changed", &|| {}, [false, false]),
            ("another one uses a module", &|| module(" 0 - ", " 1 other, "), [false, false]),
            ("a module is elsewhere", &|| module("0x2", "0x3"), [false, true]),
            ("it is there no more", &|| module(&modules, ""), [false, true]),
            ("it has not started yet", &|| module("Live", "Loading"), [false, true]),
            ("the clock was set", &|| booted(2000), [false, true]),
            ("the boot's file is gone", &|| fs::remove_file(&boot_file).unwrap(), [false, true]),
            ("the kernel's file is gone", &|| fs::remove_file(&kernel).unwrap(), [true, true]),
        ];
        for (what, change, packed) in steps {
            // What is written anew is for root to write to, too.
            for path in [&kernel, &boot_file] {
                File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
            }
            change();
            if packed == [false; 2] {
                // Nothing is read of it.
                fs::rename(root.join("proc/kallsyms"), root.join("away")).unwrap();
            }
            save(root).unwrap();
            let _ = fs::rename(root.join("away"), root.join("proc/kallsyms"));
            let is_new =
                [&kernel, &boot_file].map(|path| fs::metadata(path).unwrap().mode() & 0o777 == 0o600);
            assert_eq!(is_new, packed, "{what}");
            for path in [&kernel, &boot_file] {
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            for path in [&kernel, &boot_file] {
                assert!(fs::metadata(path).unwrap().modified().unwrap() > old, "{what}");
            }
        }
    }

    #[test]
    fn a_variable_is_found_where_it_was_saved_in_this_boot() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        boot(root, &BUILD_ID, "aaaa", 1000, 0xffffffff81000000, 0xffffffffc0000000);
        let line = "ffffffff82000008 B kexec_crash_image\n";
        let kallsyms = fs::read_to_string(root.join("proc/kallsyms")).unwrap();
        fs::write(
            root.join("proc/kallsyms"),
            kallsyms.replace("ffffffffc0000000 t deaf", &format!("{line}ffffffffc0000000 t deaf")),
        )
        .unwrap();
        assert_eq!(variable(root, "kexec_crash_image"), None);
        save(root).unwrap();
        assert_eq!(variable(root, "kexec_crash_image"), Some([0xffffffff81000000, 0xffffffff82000008]));
        for other in ["kexec_crash", "kexec_crash_image_not", "_stext", ""] {
            assert_eq!(variable(root, other), None, "{other}");
        }
        // Elsewhere in another boot.
        fs::write(root.join("proc/sys/kernel/random/boot_id"), "bbbb\n").unwrap();
        assert_eq!(variable(root, "kexec_crash_image"), None);
    }

    #[test]
    fn only_the_last_few_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for kernel in 0..KEPT as u8 + 2 {
            boot(root, &[kernel; 20], &format!("{kernel}"), 1000, 1 << 32, 2 << 32);
            let path = save(root).unwrap();
            // File systems differ in how fine their times are.
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(kernel));
            for path in [path.clone(), path.with_extension(format!("{kernel}.z"))] {
                File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
            }
        }
        let left = |kernel| Symbols::find(root, u32::from_be_bytes([kernel; 4])).unwrap().is_some();
        assert_eq!((0..8).filter(|kernel| left(*kernel)).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        assert_eq!(fs::read_dir(root.join(FOLDER)).unwrap().count(), 2 * KEPT);
    }

    #[test]
    fn a_kernel_that_hides_its_symbols_leaves_what_was_saved() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        boot(root, &BUILD_ID, "aaaa", 1000, 1 << 32, 2 << 32);
        save(root).unwrap();
        boot(root, &BUILD_ID, "bbbb", 2000, 0, 0);
        let hidden = fs::read_to_string(root.join("proc/kallsyms")).unwrap();
        let zeros = hidden.lines().map(|line| format!("{:016x} {}\n", 0, line.split_once(' ').unwrap().1));
        fs::write(root.join("proc/kallsyms"), zeros.collect::<String>()).unwrap();
        let error = format!("{:#}", save(root).unwrap_err());
        assert!(error.contains("kptr_restrict"), "{error}");
        assert_eq!(Symbols::find(root, ID).unwrap().unwrap().boots.len(), 1);
    }

    /// A saved kernel, and where its files are.
    fn saved() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        boot(root.path(), &BUILD_ID, "aaaa", 1000, 1 << 32, 2 << 32);
        let kernel = save(root.path()).unwrap();
        let folder = root.path().join(FOLDER);
        (root, folder, kernel)
    }

    fn refused(root: &Path) {
        for error in [save(root).map(drop).unwrap_err(), Symbols::find(root, ID).map(drop).unwrap_err()] {
            let error = format!("{error:#}");
            assert!(error.contains("others than root can write") && error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn the_folder_is_roots_or_ones_own_and_nobody_elses_to_write() {
        for (owner, mode, us, safe) in [
            (0, 0o755, 0, true),
            (0, 0o700, 1000, true),
            (1000, 0o755, 1000, true),
            (1000, 0o755, 0, false),
            (0, 0o775, 0, false),
            (0, 0o757, 0, false),
            (0, 0o1777, 1000, false),
        ] {
            assert_eq!(is_safe(owner, mode, us), safe, "{owner} {mode:o} {us}");
        }
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_read_and_not_written() {
        for mode in [0o775, 0o757, 0o1777] {
            let (root, folder, kernel) = saved();
            fs::remove_file(&kernel).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            refused(root.path());
            assert!(!kernel.exists(), "{mode:o}");
        }
    }

    #[test]
    fn a_link_to_a_folder_is_followed_where_the_folder_is_safe() {
        let (root, folder, _) = saved();
        let elsewhere = root.path().join("elsewhere");
        fs::rename(&folder, &elsewhere).unwrap();
        symlink(&elsewhere, &folder).unwrap();
        save(root.path()).unwrap();
        assert!(Symbols::find(root.path(), ID).unwrap().is_some());
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).unwrap();
        refused(root.path());
    }

    #[test]
    fn what_stands_in_the_place_of_a_saved_file_is_replaced_and_not_followed() {
        let (root, _, kernel) = saved();
        let root = root.path();
        let victim = root.join("victim");
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        for name in [kernel.clone(), kernel.with_extension("aaaa.z")] {
            let name = &name;
            let place: [(&str, &dyn Fn()); 3] = [
                ("link", &|| symlink(&victim, name).unwrap()),
                ("hard link", &|| fs::hard_link(&victim, name).unwrap()),
                ("pipe", &|| {
                    assert!(Command::new("mkfifo").arg(name).status().unwrap().success());
                }),
            ];
            for (what, put) in place {
                fs::write(&victim, "precious").unwrap();
                File::options().append(true).open(&victim).unwrap().set_modified(old).unwrap();
                fs::remove_file(name).unwrap();
                put();
                if what != "hard link" {
                    let found = Symbols::find(root, ID).unwrap();
                    // Without its file the kernel that runs here is found by its own symbols.
                    assert!(found.is_some_and(|found| found.boots.is_empty()), "{what}");
                }
                save(root).unwrap();
                assert!(fs::symlink_metadata(name).unwrap().is_file(), "{what}");
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{what}");
                assert_eq!(fs::metadata(&victim).unwrap().modified().unwrap(), old, "{what}");
                assert_eq!(Symbols::find(root, ID).unwrap().unwrap().boots.len(), 1, "{what}");
            }
        }
    }

    #[test]
    fn a_file_that_others_can_write_to_gives_no_names() {
        let (root, _, kernel) = saved();
        fs::set_permissions(&kernel, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Symbols::find(root.path(), ID).unwrap().is_some_and(|found| found.boots.is_empty()));
        save(root.path()).unwrap();
        assert_eq!(fs::metadata(&kernel).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
