//! The image and the wrapped kernels as files: the same bytes from every build, and good PE files that can be signed.
//! Debian's real kernels, no machine.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::image::Image;
use lastwords_vm::machine::kernels::{Kernel, Release};
use lastwords_vm::machine::{lastwords, packages, process};
use object::{Object, ObjectSymbol};
use std::fs;
use std::path::Path;
use std::process::Command;

/// People sign what comes out of a build: two builds in different folders make the same image.
#[test]
#[ignore = "make test-all: a minute of building; packages:: compares the images of two builds"]
fn the_image_is_the_same_from_another_folder() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is the parent")?;
    let files = process::output(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("another/place");
    for file in String::from_utf8(files)?.split_terminator('\0') {
        let (from, to) = (root.join(file), copy.join(file));
        // One that was removed and not committed yet.
        if from.exists() {
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            fs::copy(from, to)?;
        }
    }
    // The tool's build script builds the image. The tool itself is only looked at, which takes a quarter of the time.
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["check", "--quiet", "--package", "lastwords"]).current_dir(&copy);
    build.arg("--target-dir").arg(folder.path().join("target"));
    process::output(&mut build)?;

    let builds = fs::read_dir(folder.path().join("target/debug/build"))?;
    let images = builds.filter_map(|entry| Some(entry.ok()?.path().join("out/purgatory.bin")));
    let images: Vec<_> = images.filter(|path| path.is_file()).collect();
    let [image] = &images[..] else { anyhow::bail!("the build has left {images:?}") };
    let sum = process::text(Command::new("sha256sum").arg(image))?;
    let theirs = sum.split_whitespace().next().context("no sum")?;
    let ours = process::text(Command::new(lastwords::program()?).arg("--version"))?;
    ensure!(ours.contains(&format!("image SHA-256: {theirs}")), "here {ours}, there {theirs}");
    Ok(())
}

/// SSE faults until the entry code has enabled it, and after the way out has put the CPU back: the assembly has none. The
/// prebuilt core library has, so that objdump shows what it looks like.
#[test]
fn the_way_in_and_the_way_out_use_no_sse() -> Result<()> {
    let elf = lastwords::image_elf()?;
    let text = process::text(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(&elf))?;
    let mut assembly = 0;
    let mut elsewhere = 0;
    let mut ours = false;
    for line in text.lines() {
        if let Some((_, name)) = line.split_once(" <").filter(|_| line.ends_with(">:")) {
            ours = name.starts_with("lastwords_");
        } else if ours && line.contains('\t') {
            assembly += 1;
            ensure!(!line.contains("xmm"), "SSE in the assembly: {line}");
        } else {
            elsewhere += usize::from(line.contains("xmm"));
        }
    }
    ensure!(
        assembly > 100 && elsewhere > 0,
        "{assembly} instructions of assembly, SSE in {elsewhere} others"
    );
    Ok(())
}

/// What the bench knows of the header is what the linker says of the same build.
#[test]
fn the_header_is_where_the_judge_looks_for_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let wrapped = folder.path().join("wrapped");
    lastwords::wrap(&Kernel::get(Release::V6_1)?.image, &wrapped, "")?;
    let wrapped = fs::read(wrapped)?;
    let image = Image::find(&wrapped)?;
    let elf = fs::read(lastwords::image_elf()?)?;
    let elf = object::File::parse(elf.as_slice())?;
    let symbol = |name: &str| {
        let found = elf.symbols().find(|symbol| symbol.name() == Ok(name));
        found.map(|symbol| symbol.address()).with_context(|| format!("the image has no symbol {name}"))
    };
    // The build puts a shorter table of relocations in the place of the linker's, and the file ends behind it.
    let table = symbol("__relocations")?..symbol("__relocations_end")?;
    ensure!(
        table.contains(&image.file_size()?),
        "its file's bytes: {:#x}, not in {table:x?}",
        image.file_size()?
    );
    ensure!(image.memory_size()? == symbol("__memory_end")?, "its memory's bytes");
    ensure!(image.purgatory_entry()? == symbol("lastwords_purgatory_entry")?, "its entry as the purgatory");
    ensure!(image.entry()? == symbol("lastwords_entry")?, "its entry behind the hook");
    Ok(())
}

fn run(folder: &Path, program: &str, arguments: &str) -> Result<Vec<u8>> {
    process::output(Command::new(program).args(arguments.split_whitespace()).current_dir(folder))
}

/// Debian's signature goes, a new one fits, and covers the image.
fn is_signed_again(release: Release) -> Result<()> {
    packages::install()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let kernel = Kernel::get(release)?.image;
    let listed = process::text(Command::new("sbverify").arg("--list").arg(&kernel))?;
    ensure!(listed.contains("signature 1"), "Debian's kernel is not signed: {listed}");
    lastwords::wrap(&kernel, &path.join("wrapped"), "--ipmi-handle-panic")?;
    let listed = String::from_utf8(run(path, "sbverify", "--list wrapped")?)?;
    ensure!(!listed.contains("signature"), "the void signature is still there: {listed}");
    takes_a_signature(path)
}

/// The file `wrapped` in this folder can be signed, and the signature covers the image.
fn takes_a_signature(path: &Path) -> Result<()> {
    run(path, "openssl", "req -new -x509 -newkey rsa:2048 -noenc -keyout key -out crt -subj /CN=test")?;
    run(path, "sbsign", "--key key --cert crt --output signed wrapped")?;
    run(path, "sbverify", "--cert crt signed")?;

    let mut signed = fs::read(path.join("signed"))?;
    let image = signed.windows(8).rposition(|bytes| bytes == b"lastword").context("no image in it")?;
    signed[image + 0x400] ^= 1;
    fs::write(path.join("changed"), signed)?;
    ensure!(run(path, "sbverify", "--cert crt changed").is_err(), "the signature does not cover the image");
    Ok(())
}

#[test]
fn linux_6_1_is_signed_again() -> Result<()> {
    is_signed_again(Release::V6_1)
}

#[test]
fn linux_6_12_is_signed_again() -> Result<()> {
    is_signed_again(Release::V6_12)
}

#[test]
fn what_stands_for_no_dump_kernel_is_signed_as_any_kernel() -> Result<()> {
    packages::install()?;
    let folder = tempfile::tempdir()?;
    let mut wrap = Command::new(lastwords::program()?);
    wrap.args(["wrap", "--no-dump-kernel", "--ipmi-handle-panic", "-o"]).arg(folder.path().join("wrapped"));
    process::output(&mut wrap)?;
    takes_a_signature(folder.path())
}
