//! The wrapped kernels that the distribution's kdump loads: /var/lib/kdump/lastwords/vmlinuz-VERSION, each with a record of
//! what it was made from beside it, VERSION.json.
//!
//! A wrapped kernel is used only while its record holds: it was made from the kernel that is there now, with today's
//! parameters and this tool's image, and its checksum is right. Everything else is stale and is made anew, so a power cut, a
//! full disk or a tool that was killed can leave nothing behind that is loaded. The record is written last.

use crate::{
    arm::{
        busy,
        file::{self, Source, Take},
        image::{CHECKSUM, IMAGE},
        kdump::Kdump,
        loading::{Loading, Trial},
        refusal::{Refusal, Situation},
        sign::{self, Signer},
    },
    bmc::{
        self,
        discovery::{self, Source as From},
    },
    config::{self, Config},
    crashes::watchdog,
    message, sort, sys,
};
use anyhow::{Context, Result, bail, ensure};
use lastwords_boot::{self as boot, BzImage, Uki};
use lastwords_core::{
    ipmi::watchdog::Watchdog,
    plan::{PREFIX, Plan},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    ffi::CString,
    fmt::Write,
    fs::{self, File, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The folder: one that SELinux labels for kdump, on a file system that holds kernels.
pub const FOLDER: &str = "var/lib/kdump/lastwords";
/// What stands before the version in a wrapped kernel's name: kdumpctl looks for the name of the running kernel's file.
const NAME: &str = "vmlinuz-";
/// The schema's version.
const SCHEMA: u32 = 1;

/// What a wrapped kernel was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    schema: u32,
    /// The kernel's version, as `uname -r` has it.
    pub version: String,
    /// The kernel's own file.
    pub source: PathBuf,
    /// What was seen of it.
    pub source_stat: Stat,
    /// Its SHA-256.
    pub source_sha256: String,
    /// The wrapped kernel's SHA-256.
    pub result_sha256: String,
    /// What was seen of the wrapped kernel's file, when it was on the disk.
    #[serde(default)]
    pub result_stat: Stat,
    /// The parameters that are embedded in it.
    pub parameters: String,
    /// The image's SHA-256.
    pub image_sha256: String,
    /// The id of the key that it is signed with, where it is signed.
    pub key_id: Option<String>,
    /// The command that has signed it, where one has.
    #[serde(default)]
    pub sign_command: Option<String>,
    /// Why it is not to be loaded: what the kernel, or the distribution's kdump, answered.
    pub refused: Option<String>,
}

/// What tells a file from another one of the same name, without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Bytes.
    pub len: u64,
    /// Time of the last change of its content, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of anything, likewise.
    pub ctime_ns: i64,
    /// Its number in the file system.
    pub inode: u64,
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            len: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// A wrapped kernel that may be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// Its file.
    pub path: PathBuf,
    /// Its record.
    pub record: Record,
    /// Was it made just now?
    pub new: bool,
}

/// A kernel's version as a part of a file's name.
///
/// # Errors
/// When it is none.
pub fn check(version: &str) -> Result<&str> {
    let is_name = !version.is_empty()
        && !version.starts_with('.')
        && !version.contains(|letter: char| letter == '/' || letter.is_whitespace() || letter.is_control());
    ensure!(is_name, "{version:?} is no kernel's version\nhint: give it as uname -r prints it");
    Ok(version)
}

/// Where the wrapped kernel of a version is, or would be.
#[must_use]
pub fn path(root: &Path, version: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{NAME}{version}"))
}

fn record_path(root: &Path, version: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{version}.json"))
}

/// The record of a version's wrapped kernel.
///
/// # Errors
/// When there is none that can be read.
pub fn record(root: &Path, version: &str) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(file::read_text(&record_path(root, version))?.as_bytes())?;
    let counts = record.schema == SCHEMA && record.version == version;
    if counts { Ok(record) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// The versions that there are wrapped kernels or records of.
#[must_use]
pub fn versions(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join(FOLDER)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let version =
        |name: String| name.strip_prefix(NAME).or_else(|| name.strip_suffix(".json")).map(str::to_owned);
    let mut versions: Vec<_> = names.filter_map(version).collect();
    sort::all(&mut versions);
    versions.dedup();
    versions
}

/// The kernel's own file: where the distributions have it, else the one that is named.
#[must_use]
pub fn source(root: &Path, version: &str, named: Option<&Path>) -> Option<PathBuf> {
    let usual = [format!("boot/vmlinuz-{version}"), format!("usr/lib/modules/{version}/vmlinuz")];
    usual.iter().map(|path| root.join(path)).chain(named.map(Path::to_owned)).find(|path| path.is_file())
}

/// What is to be made from which kernel.
pub struct Wanted<'a> {
    root: &'a Path,
    version: &'a str,
    source: PathBuf,
    parameters: String,
    sign: Sign,
}

/// How it is to be signed.
enum Sign {
    /// Not at all, or by this.
    With { signer: Option<Box<Signer>>, command: Option<String> },
    /// As it is: nothing is known of how to do it again.
    AsBefore,
}

impl Sign {
    /// By what is configured, else, where the kernel demands a signature, by a key of this machine that the kernel trusts.
    fn new(root: &Path, config: &config::Sign) -> Result<Self> {
        let found = || demands_signature(root, &Kdump::read(root)).then(|| sign::find(root)).flatten();
        let config =
            if *config == config::Sign::default() { found().unwrap_or_default() } else { config.clone() };
        Ok(Self::With {
            signer: Signer::from(&config).context("[sign]")?.map(Box::new),
            command: config.command,
        })
    }

    /// Would this have been signed so?
    fn is_of(&self, record: &Record) -> bool {
        match self {
            Self::AsBefore => true,
            // What key a command has used only its result shows.
            Self::With { command: Some(command), .. } => record.sign_command.as_ref() == Some(command),
            Self::With { signer, command: None } => {
                record.sign_command.is_none()
                    && record.key_id == signer.as_ref().and_then(|signer| signer.key_id())
            }
        }
    }
}

impl<'a> Wanted<'a> {
    /// For this kernel, as it is configured.
    ///
    /// # Errors
    /// When there is no such kernel.
    pub fn new(root: &'a Path, version: &'a str, named: Option<&Path>, config: &Config) -> Result<Self> {
        let source = source(root, check(version)?, named)
            .with_context(|| format!("no kernel of version {version} is in /boot or /usr/lib/modules"))?;
        let known = record(root, version).ok();
        let parameters = parameters(root, &config.parameters, known.as_ref());
        Ok(Self { root, version, source, parameters, sign: Sign::new(root, &config.sign)? })
    }

    /// For this kernel, as the wrapped one is that is there: where the configuration cannot be read.
    ///
    /// # Errors
    /// When there is no such kernel, or no record.
    pub fn as_before(root: &'a Path, version: &'a str) -> Result<Self> {
        let record = record(root, check(version)?).context("no wrapped kernel is there")?;
        let source = source(root, version, Some(&record.source)).context("its kernel is gone")?;
        Ok(Self { root, version, source, parameters: record.parameters, sign: Sign::AsBefore })
    }

    /// The record, where it holds but for the wrapped kernel's checksum.
    fn known(&self) -> Option<Record> {
        let record = record(self.root, self.version).ok()?;
        let stat = Stat::of(&fs::metadata(&self.source).ok()?);
        let holds = self.root.join(record.source.strip_prefix("/").ok()?) == self.source
            && record.source_stat == stat
            && record.parameters == self.parameters
            && self.sign.is_of(&record)
            && record.image_sha256 == CHECKSUM;
        holds.then_some(record)
    }

    /// The wrapped kernel that is there, where it may be loaded. It is read, nothing is written.
    #[must_use]
    pub fn fresh(&self) -> Option<Wrapped> {
        let record = self.known().filter(|record| record.refused.is_none())?;
        let path = path(self.root, self.version);
        let source = Source::open(&path).ok()?;
        // Its checksum is made where it is not, untouched, the file that was written.
        let is_it = Stat::of(&source.file.metadata().ok()?) == record.result_stat
            || sha256(&source.bytes(Take::Mapped).ok()?) == record.result_sha256;
        is_it.then_some(Wrapped { path, record, new: false })
    }

    /// Is one there that was made in this way, whether it may be loaded or not? Only what is around the file is looked at.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.known().is_some()
    }

    /// Why the wrapped kernel that would be made was put aside, where it was.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.known()?.refused
    }

    /// The wrapped kernel, made anew where there is no fresh one.
    ///
    /// # Errors
    /// When it cannot be made or written, or has been refused.
    pub fn refresh(&self) -> Result<Wrapped> {
        // Also for one that is fresh: something else may have been loaded, and written down, in between.
        let plan = Plan::new("", &self.parameters);
        if let (Err(error), Watchdog::Start { .. }) = (watchdog::record(self.root, &plan), plan.watchdog) {
            return Err(error.context("a watchdog that nobody would stop is not started"));
        }
        if let Some(wrapped) = self.fresh() {
            return Ok(wrapped);
        }
        let _lock = busy::lock(self.root);
        // Another one may have made it meanwhile.
        if let Some(wrapped) = self.fresh() {
            return Ok(wrapped);
        }
        if let Some(why) = self.refused() {
            bail!("the wrapped kernel was put aside: {why}\nhint: lastwords enable tries it again");
        }
        self.make().with_context(|| format!("{} not wrapped", self.source.display()))
    }

    fn make(&self) -> Result<Wrapped> {
        let source = Source::open(&self.source)?;
        let metadata = source.file.metadata()?;
        let bytes = source.bytes(Take::Mapped)?;
        let mut wrapped = wrap(&bytes, &self.parameters)?;
        bytes.check(&self.source)?;
        let Sign::With { signer, command } = &self.sign else {
            bail!("it is stale, and the configuration cannot be used");
        };
        if let Some(signer) = signer {
            wrapped = signer.sign(&wrapped)?;
        }
        let (path, record_path) = (path(self.root, self.version), record_path(self.root, self.version));
        let folder = self.root.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        // No record may hold for what is about to be written: one is written for it, or none is there.
        match fs::remove_file(&record_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| record_path.display().to_string());
            }
            _ => {}
        }
        file::replace(&path, &wrapped, &Permissions::from_mode(metadata.permissions().mode() & 0o644))
            .with_context(|| path.display().to_string())?;
        // kdumpctl makes its RAM disk anew, which takes a minute, when the kernel's file is newer.
        if let (Ok(file), Ok(time)) = (File::options().write(true).open(&path), metadata.modified()) {
            let _ = file.set_modified(time);
        }
        let mut record = Record {
            schema: SCHEMA,
            version: self.version.to_owned(),
            source: Path::new("/").join(self.source.strip_prefix(self.root).unwrap_or(&self.source)),
            source_stat: Stat::of(&metadata),
            source_sha256: sha256(&bytes),
            result_sha256: sha256(&wrapped),
            result_stat: fs::metadata(&path).map(|file| Stat::of(&file)).unwrap_or_default(),
            parameters: self.parameters.clone(),
            image_sha256: CHECKSUM.to_owned(),
            key_id: sign::key_id(&wrapped),
            sign_command: command.clone(),
            refused: None,
        };
        let refusal = refusal(self.root, &path, &wrapped)?;
        record.refused = refusal.as_ref().map(|refusal| message::fact(&refusal.to_string()).to_owned());
        write(self.root, &record)?;
        if let Some(refusal) = refusal {
            return Err(refusal).context("the kernel would not load it");
        }
        Ok(Wrapped { path, record, new: true })
    }
}

/// The wrapped kernel's bytes. What is wrapped already is taken apart first, and a unified kernel image's kernel is taken.
fn wrap(file: &[u8], parameters: &str) -> Result<Vec<u8>> {
    let uki = Uki::parse(file)?;
    let kernel = uki.map_or(file, |uki| uki.linux);
    let kernel = if BzImage::parse(kernel)?.is_wrapped() {
        Cow::from(boot::unwrap(kernel)?)
    } else {
        Cow::from(kernel)
    };
    Ok(boot::wrap(&kernel, &IMAGE, parameters)?)
}

/// Does the running kernel demand signatures?
#[must_use]
pub fn demands_signature(root: &Path, kdump: &Kdump) -> bool {
    kdump.lockdown.is_some() || sign::secure_boot(root)
}

/// What the kernel answers to a wrapped kernel where it demands signatures: what is known beforehand, else loaded in the
/// place of `kexec -e`, the dump kernel stays what it is. What cannot be tried is not refused.
fn refusal(root: &Path, path: &Path, wrapped: &[u8]) -> Result<Option<Refusal>> {
    let kdump = Kdump::read(root);
    if !demands_signature(root, &kdump) {
        return Ok(None);
    }
    if let Some(refusal) = sign::verdict::refusal(root, wrapped, false) {
        return Ok(Some(refusal));
    }
    let bz_image = BzImage::parse(wrapped)?;
    let situation = Situation {
        kdump: &kdump,
        signed: bz_image.is_signed(),
        was_signed: false,
        needs: u64::from(bz_image.init_size),
    };
    let loading = Loading::Wrap {
        kernel: File::open(path)?,
        initrd: None,
        cmdline: CString::default(),
        situation,
        files: wrapped.len() as u64,
    };
    Ok(match loading.trial(root, &kdump) {
        Trial::Refused(refusal) if refusal.is_about_the_file() => Some(refusal),
        // Of memory, or of others that load: that tells nothing of the file.
        Trial::Refused(_) | Trial::Skipped | Trial::Accepted => None,
    })
}

/// The configured parameters, and the BMC's interface as this machine has it. What the record has stays, unless the driver serves another
/// or the machine shows that it is another one now: else each boot, before the BMC's driver is loaded, would make it anew
/// twice.
fn parameters(root: &Path, configured: &str, known: Option<&Record>) -> String {
    let plan = Plan::new("", configured);
    if !plan.talks_to_bmc() || plan.interface.is_some() {
        return configured.to_owned();
    }
    let mut found = discovery::interfaces(root);
    let before = known.and_then(|known| bmc::named_interface(&known.parameters));
    let before = before.filter(|before| found.is_empty() || found.iter().any(|one| one.may_be(*before)));
    let driven = discovery::best(&found).filter(|(at, _)| found[*at].source == From::Driver);
    let interface = driven.map(|(_, interface)| interface).or(before).or_else(|| {
        discovery::ask(root, &mut found);
        discovery::best(&found).map(|(_, interface)| interface)
    });
    let parameter = interface.map(|interface| {
        let (name, value) = bmc::named(interface);
        format!("{PREFIX}{name}={value}")
    });
    parameter.into_iter().fold(configured.to_owned(), |line, parameter| format!("{line} {parameter}"))
}

/// Puts a wrapped kernel aside: it is not loaded until what it is made from changes, or `lastwords enable` runs.
///
/// # Errors
/// When there is no record, or it cannot be written.
pub fn put_aside(root: &Path, version: &str, why: &str) -> Result<()> {
    let _lock = busy::lock(root);
    let mut record = record(root, version)?;
    record.refused = Some(why.to_owned());
    write(root, &record)
}

/// Deletes a version's wrapped kernel and its record.
///
/// # Errors
/// When one of them is there and cannot be deleted.
pub fn remove(root: &Path, version: &str) -> Result<()> {
    // The record first: what is left without one is not used.
    for path in [record_path(root, check(version)?), path(root, version)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

fn write(root: &Path, record: &Record) -> Result<()> {
    let path = record_path(root, &record.version);
    let text = serde_json::to_string_pretty(record)? + "\n";
    file::replace(&path, text.as_bytes(), &Permissions::from_mode(0o644))
        .with_context(|| path.display().to_string())
}

/// A SHA-256 in hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The running kernel's version.
///
/// # Errors
/// When /proc does not show it.
pub fn running(root: &Path) -> Result<String> {
    let version =
        fs::read_to_string(root.join("proc/sys/kernel/osrelease")).context("/proc/sys/kernel/osrelease")?;
    Ok(check(version.trim())?.to_owned())
}

/// May files be changed?
#[must_use]
pub fn is_root() -> bool {
    sys::effective_user() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::{Root, spmi_table};

    #[test]
    fn the_bmcs_interface_is_added_as_it_is_and_what_is_no_longer_shown_as_it_was() {
        const ASKED: &str = "lastwords.ipmi_handle_panic";
        let root = Root::new();
        let made = |configured: &str, before: &str| {
            let known = Record { parameters: format!("{ASKED} {before}"), ..Record::default() };
            parameters(root.path(), configured, Some(&known))
        };
        let [ca2, ca4] = ["lastwords.ipmi_kcs_ports=0xca2,0xca3", "lastwords.ipmi_kcs_ports=0xca4,0xca5"];
        let pci = "lastwords.ipmi_kcs_ports=0xc080,0xc084";
        // Nothing is shown.
        assert_eq!(made(ASKED, ""), ASKED);
        assert_eq!(made(ASKED, pci), format!("{ASKED} {pci}"));
        // A PCI device that nobody can ask is the one that it was, or another.
        root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &[(0xc080, 8, true)]);
        assert_eq!(made(ASKED, pci), format!("{ASKED} {pci}"));
        assert_eq!(made(ASKED, ca4), ASKED);
        // Also the usual ports are named: no image takes them unasked.
        root.write("sys/firmware/acpi/tables/SPMI", spmi_table(1, 8, 0xca2));
        assert_eq!(made(ASKED, ca4), format!("{ASKED} {ca2}"));
        // What the record has stays, though another table comes first, unless the driver serves that.
        root.write("sys/firmware/acpi/tables/SPMI2", spmi_table(1, 8, 0xca4));
        assert_eq!(made(ASKED, ca4), format!("{ASKED} {ca4}"));
        root.write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", "kcs,i/o,0xca2,rsp=1");
        assert_eq!(made(ASKED, ca4), format!("{ASKED} {ca2}"));
        // What is configured counts, and what does not talk to a BMC needs none.
        let bt = format!("{ASKED} lastwords.ipmi_interface=bt:0xe4");
        assert_eq!(made(&bt, ""), bt);
        assert_eq!(made("lastwords.output_cpu_ip=console", ""), "lastwords.output_cpu_ip=console");
    }
}
