//! Builds the freestanding image (`purgatory/`) and makes of its ELF file the flat bytes that the tool embeds:
//! `$OUT_DIR/purgatory.bin`, its header's sizes filled in; `purgatory.z`, the same packed, since the tool goes into RAM disks; and
//! `purgatory.sha256`, which each call of the tool would have to make otherwise.
//!
//! It is a build of its own, with its own flags and target directory, whatever flags the tool is built with. And it
//! is checked here, so that no tool exists with an image that is not: no symbol that panics, none undefined, no
//! relocation but R_X86_64_RELATIVE, no more than 64 KiB.

use flate2::{Compression, write::ZlibEncoder};
use lastwords_core::{abi, digest};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, elf};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io::Write};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "purgatory";
/// Largest image in the file, in bytes: an allowance for all that is planned, not a target.
const LARGEST: usize = 64 * 1024;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is the parent").to_owned();
    for path in ["purgatory", "core", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rerun-if-changed=no-unwinding.ld");
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}/no-unwinding.ld", env!("CARGO_MANIFEST_DIR"));
    }
    let image = flat(&fs::read(build(&root, &out.join("image"))).expect("cargo has just built it"));
    let checksum = Sha256::digest(&image).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    fs::write(out.join("purgatory.sha256"), checksum).expect("OUT_DIR can be written to");
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    let packed =
        packed.write_all(&image).and_then(|()| packed.finish()).expect("memory takes what is written");
    fs::write(out.join("purgatory.z"), packed).expect("OUT_DIR can be written to");
    fs::write(out.join("purgatory.bin"), image).expect("OUT_DIR can be written to");
}

/// Builds the image's ELF file and returns its path.
fn build(root: &Path, target_dir: &Path) -> PathBuf {
    let flags = [
        "-Cno-redzone=yes".to_owned(),
        "-Crelocation-model=pic".to_owned(),
        // Half a kilobyte smaller than without, and 80 bytes (measured).
        "-Cllvm-args=--inline-threshold=15".to_owned(),
        "-Cllvm-args=--enable-pre=false".to_owned(),
        "-Cllvm-args=--x86-cmov-converter=false".to_owned(),
        // 270 bytes, and 500: what is taken out of a loop is kept in the stack, which is far away.
        "-Cllvm-args=--disable-licm-promotion".to_owned(),
        "-Cllvm-args=--disable-machine-licm".to_owned(),
        // For `--digest sha256` the smallest code: that for SHA instructions has a kilobyte.
        "--cfg=sha2_backend=\"soft\"".to_owned(),
        "--cfg=sha2_backend_soft=\"compact\"".to_owned(),
        // The same bytes wherever the source lies: people sign what comes out.
        format!("--remap-path-prefix={}=.", root.display()),
    ];
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(root)
        .args(["build", "--package", "lastwords-purgatory", "--profile", PROFILE, "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        // With `CARGO_TARGET_` come linkers, runners and flags: zig's, where the tool is built for an old glibc. The
        // image has no C library, and its linker script is GNU's.
        let meant_for_the_tool =
            ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_"];
        if meant_for_the_tool.iter().any(|prefix| name.starts_with(prefix))
            || ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_LINKER"].contains(&&*name)
        {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo.status().expect("cargo runs, it has started this");
    assert!(status.success(), "the image in purgatory/ does not build: {status}");
    target_dir.join(TARGET).join(PROFILE).join("purgatory")
}

/// The image's one segment as flat bytes, checked.
fn flat(elf_bytes: &[u8]) -> Vec<u8> {
    let file = ElfFile64::<LittleEndian>::parse(elf_bytes).expect("the linker makes an ELF file");
    for symbol in file.symbols() {
        let name = symbol.name().unwrap_or("");
        assert!(!name.contains("panic"), "the image can panic: it contains {name}");
        assert!(name.is_empty() || !symbol.is_undefined(), "the image lacks {name}");
    }
    let endian = LittleEndian;
    let segment = file
        .elf_program_headers()
        .iter()
        .find(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .expect("the linker script makes a segment");
    let mut flat = segment.data(endian, elf_bytes).expect("the segment is in the file").to_vec();
    assert_eq!(segment.p_vaddr(endian), 0, "the image starts at address 0");
    assert!(flat.starts_with(&abi::MAGIC), "the image starts with its header");
    shorten_relocations(&file, &mut flat);
    assert!(flat.len() <= LARGEST, "the image has {} bytes, more than {LARGEST}", flat.len());
    assert!(flat.len().is_multiple_of(8), "the entry code sums whole words");
    let purgatory_entry = symbol(&file, "lastwords_purgatory_entry");
    for (at, value) in [
        (abi::ENTRY, file.entry()),
        (abi::PURGATORY_ENTRY, purgatory_entry),
        (abi::FILE_SIZE, flat.len() as u64),
        (abi::MEMORY_SIZE, segment.p_memsz(endian)),
    ] {
        let value = u32::try_from(value).expect("the image is small");
        flat[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    assert!(
        flat.len() as u64 <= symbol(&file, "__file_end"),
        "the entry code takes it for longer than it can be"
    );
    let sum = digest::sum(&flat[abi::SUMMED..]);
    flat[abi::OWN_SUM..abi::SUMMED].copy_from_slice(&sum.to_le_bytes());
    flat
}

/// Puts the entry code's own table in the place of the linker's, which is the last in the file: the offsets of what is
/// relocated, two bytes each, and a zero. What is added to the image's address is written where it will be.
fn shorten_relocations(file: &ElfFile64<LittleEndian>, flat: &mut Vec<u8>) {
    /// Length of an Elf64_Rela: r_offset, r_info, r_addend.
    const RELA_LEN: usize = 24;
    let start = symbol(file, "__relocations") as usize;
    let table = flat[start..symbol(file, "__relocations_end") as usize].to_vec();
    // What is not loaded has the address 0, what is not in the file no range there.
    for section in file.sections() {
        let is_behind = section.address() > start as u64 && section.file_range().is_some();
        assert!(!is_behind || section.name() == Ok(".dynamic"), "a section lies where the file is cut");
    }
    flat.truncate(start);
    for rela in table.chunks(RELA_LEN) {
        let number = |at: usize| u64::from_le_bytes(rela[at..at + 8].try_into().expect("eight bytes"));
        let kind = number(8) as u32;
        assert_eq!(kind, elf::R_X86_64_RELATIVE.0, "the image has a relocation that nobody applies");
        let offset = u16::try_from(number(0)).expect("the image is smaller than 64 KiB");
        let place = usize::from(offset);
        assert!(place > 0 && place + 8 <= start, "a relocation lies behind what is in the file");
        flat[place..place + 8].copy_from_slice(&number(16).to_le_bytes());
        flat.extend(offset.to_le_bytes());
    }
    flat.extend([0; 2]);
    flat.resize(flat.len().next_multiple_of(8), 0);
}

/// The address of a symbol that the entry code or the linker script defines.
fn symbol(file: &ElfFile64<LittleEndian>, name: &str) -> u64 {
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
    symbol.unwrap_or_else(|| panic!("the image has no {name}")).address()
}
