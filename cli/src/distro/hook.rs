//! `lastwords hook`: what the scripts and units of distributions call. Nothing that goes wrong here may keep kdump from
//! loading, or a kernel from being installed: it always ends with 0, and soon. What went wrong is in the journal.

use super::{is_dump_kernel, is_enabled, run, service::Service, wrapped};
use crate::{
    arm::{kdump::Kdump, status},
    config::Config,
    journal::{self, Priority},
    message,
    symbols::store,
    sys,
};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};
use wrapped::Wanted;

/// No wrapped kernel is used until the next boot, where none can be put aside in its record: /var may be read-only.
const PLAIN: &str = "run/lastwords/plain";
/// Seconds after which a hook ends. udev gives a rule 180.
const TIME: u32 = 120;
/// Another program may be between unloading and loading: so many seconds.
const PATIENCE: u32 = 5;

/// Run as a hook of kdump, of package managers and of systemd
///
/// For scripts. The exit status is always 0: errors are in the journal, and on standard error.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords hook kdump-kernel

Exit status:
  0  always, but for wrong usage")]
pub struct Hook {
    #[command(subcommand)]
    call: Call,
}

#[derive(Debug, Subcommand)]
enum Call {
    /// Print the path of the wrapped kernel, or nothing for plain kdump
    KdumpKernel {
        /// Take the kernel of this version [default: the running one]
        #[arg(id = "kernel_version", value_name = "VERSION")]
        version: Option<String>,
    },
    /// Wrap a kernel that has been installed
    KernelInstalled {
        /// Take the kernel of this version
        #[arg(id = "kernel_version", value_name = "VERSION")]
        version: String,
        /// Take this file where the kernel is in none of the usual places
        image: Option<PathBuf>,
    },
    /// Delete the wrapped kernel of a kernel that has been removed
    KernelRemoved {
        /// Take the kernel of this version
        #[arg(id = "kernel_version", value_name = "VERSION")]
        version: String,
    },
    /// Load plain kdump where no dump kernel is loaded
    Check,
    /// Write to the journal what kdump has loaded
    Loaded,
}

impl Hook {
    /// Does what is asked for, where lastwords is enabled.
    pub fn run(&self, root: &Path) -> ExitCode {
        if is_enabled(root) && !is_dump_kernel(root) {
            // Plain kdump may have to make its RAM disk, which takes minutes; the unit has a limit of its own.
            if !matches!(self.call, Call::Check) && root == Path::new("/") {
                sys::end_after(TIME);
            }
            if let Err(error) = self.call.run(root) {
                report(root, Priority::Error, &error);
            }
        }
        ExitCode::SUCCESS
    }
}

impl Call {
    fn run(&self, root: &Path) -> Result<()> {
        match self {
            Self::KdumpKernel { version } => {
                if let Some(path) = kdump_kernel(root, version.as_deref()).context(PLAIN_IS_USED)? {
                    message::output(message::path(&path));
                }
                Ok(())
            }
            Self::KernelInstalled { version, image } => installed(root, version, image.as_deref()),
            Self::KernelRemoved { version } => wrapped::remove(root, version),
            Self::Check => check(root),
            Self::Loaded => {
                if Kdump::read(root).crash_loaded == Some(true) {
                    status::journal_line(root);
                }
                Ok(())
            }
        }
    }
}

const PLAIN_IS_USED: &str = "kdump loads the plain kernel, without panic reporting";

/// Writes an error or a warning to the journal and to standard error. Only root's: others have only looked.
fn report(root: &Path, priority: Priority, error: &anyhow::Error) {
    if wrapped::is_root() {
        let _ = journal::send(root, priority, message::fact(&message::chain(error)), &[]);
    }
    match priority {
        Priority::Error | Priority::Emergency => message::error(error),
        Priority::Warning | Priority::Info => message::warning(error),
    }
}

/// The wrapped kernel that kdump is to load; none where a plain one is wanted.
fn kdump_kernel(root: &Path, version: Option<&str>) -> Result<Option<PathBuf>> {
    let version = version.map_or_else(|| wrapped::running(root), |version| Ok(version.to_owned()))?;
    if root.join(PLAIN).exists() {
        return Ok(None);
    }
    let Some(wanted) = wanted(root, &version, None)? else { return Ok(None) };
    // Who may not write gets what there is.
    if !wrapped::is_root() {
        return Ok(wanted.fresh().map(|fresh| fresh.path));
    }
    // It was reported when it was put aside.
    if wanted.refused().is_some() {
        return Ok(None);
    }
    refresh(root, &wanted).map(Some)
}

/// What is configured for this kernel; none where nothing is to be reported. A configuration that cannot be read leaves a
/// wrapped kernel as it is.
fn wanted<'a>(root: &'a Path, version: &'a str, image: Option<&Path>) -> Result<Option<Wanted<'a>>> {
    // A kernel that is gone is no matter of the configuration.
    wrapped::source(root, wrapped::check(version)?, image)
        .with_context(|| format!("no kernel of version {version} is in /boot or /usr/lib/modules"))?;
    let configured = Config::read(root).and_then(|config| {
        let is_empty = config.parameters.is_empty();
        (!is_empty).then(|| Wanted::new(root, version, image, &config)).transpose()
    });
    configured.or_else(|error| {
        report(root, Priority::Error, &error.context("the configuration is not used"));
        Wanted::as_before(root, version).map(Some)
    })
}

/// The wrapped kernel, made anew where it is stale.
pub fn refresh(root: &Path, wanted: &Wanted) -> Result<PathBuf> {
    let made = wanted.refresh()?;
    if made.new {
        let record = made.record;
        let text = format!("wrapped {} for kdump: {}", record.source.display(), record.parameters);
        let fields =
            [("LASTWORDS_IMAGE_SHA256", &*record.image_sha256), ("LASTWORDS_PLAN", &*record.parameters)];
        let _ = journal::send(root, Priority::Info, &text, &fields);
    }
    Ok(made.path)
}

/// Wraps a new kernel, so that its first boot need not, and deletes what belongs to kernels that are gone.
fn installed(root: &Path, version: &str, image: Option<&Path>) -> Result<()> {
    for other in wrapped::versions(root) {
        if wrapped::source(root, &other, None).is_none()
            && wrapped::running(root).ok().as_ref() != Some(&other)
        {
            wrapped::remove(root, &other)?;
        }
    }
    if let Some(wanted) = wanted(root, wrapped::check(version)?, image)? {
        refresh(root, &wanted).context("kdump will load the plain kernel, without panic reporting")?;
    }
    Ok(())
}

/// The net below kdump's own script: where it has loaded nothing with a wrapped kernel, it gets none.
fn check(root: &Path) -> Result<()> {
    let Some(service) = Service::find(root).filter(|service| service.is_on(root)) else { return Ok(()) };
    let mut kdump = Kdump::read(root);
    for _ in 0..PATIENCE {
        if kdump.crash_loaded != Some(false) {
            status::journal_line(root);
            // What kexec has loaded comes without the symbols that `lastwords read` wants. No kdump waits for them here.
            return store::save(root).map(drop).context("symbols not saved");
        }
        thread::sleep(Duration::from_secs(1));
        kdump = Kdump::read(root);
    }
    let possible = kdump.crash_size > 0 || kdump.busy;
    if kdump.crash_loaded != Some(false) || !possible || kdump.load_disabled || kdump.limit_panic == Some(0) {
        return Ok(());
    }
    let why = format!("{} did not load it", service.name);
    let mut was_used = false;
    for version in in_use(root) {
        let Ok(record) = wrapped::record(root, &version) else { continue };
        if record.refused.is_none() && !root.join(PLAIN).exists() {
            was_used = true;
            put_aside(root, &version, &why);
        }
    }
    if !was_used {
        bail!(
            "no dump kernel is loaded, although memory is reserved for one\nhint: {}",
            service.reload.join(" ")
        );
    }
    let result = run(root, service.reload);
    if Kdump::read(root).crash_loaded != Some(true) {
        result?;
        bail!("no dump kernel is loaded: {why}, nor the plain one");
    }
    let error = anyhow!(
        "plain kdump is loaded, without panic reporting: {why}\nhint: lastwords enable tries it again"
    );
    report(root, Priority::Warning, &error);
    Ok(())
}

/// The versions that kdump may load: the running kernel's, and SUSE's the one that the RAM disk was made for.
fn in_use(root: &Path) -> Vec<String> {
    let of_ram_disk = fs::read_to_string(root.join("var/lib/kdump/kernel-version")).ok();
    let mut versions: Vec<_> = wrapped::running(root).into_iter().collect();
    versions.extend(of_ram_disk.map(|version| version.trim().to_owned()));
    versions
}

/// In its record, or else for this boot.
fn put_aside(root: &Path, version: &str, why: &str) {
    if let Err(error) = wrapped::put_aside(root, version, why) {
        report(root, Priority::Warning, &error.context("put aside for this boot only"));
        let path = root.join(PLAIN);
        let _ = path.parent().map(fs::create_dir_all);
        let _ = fs::write(path, "");
    }
}

/// Wrapped kernels that were put aside are tried again.
pub fn try_again(root: &Path) -> Result<()> {
    let _ = fs::remove_file(root.join(PLAIN));
    for version in wrapped::versions(root) {
        if wrapped::record(root, &version).is_ok_and(|record| record.refused.is_some()) {
            wrapped::remove(root, &version)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::{super::ENABLED, *};
    use crate::crashes::watchdog;
    use lastwords_boot::{BzImage, embedded_parameters, synthetic};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    pub const VERSION: &str = "6.1.0-56-amd64";

    pub fn put(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A program of the system.
    pub fn program(root: &Path, path: &str, text: &str) {
        put(root, path, format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A machine that runs this kernel, with memory reserved.
    pub fn machine(root: &Path) {
        put(root, "proc/sys/kernel/osrelease", format!("{VERSION}\n"));
        put(root, "proc/sys/kernel/random/boot_id", "one\n");
        put(root, "sys/kernel/kexec_crash_size", "268435456\n");
        put(root, "sys/kernel/kexec_crash_loaded", "1\n");
        put(root, &format!("boot/vmlinuz-{VERSION}"), synthetic::Kernel::default().build());
    }

    /// One on which `lastwords enable` was run.
    fn enabled() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        machine(root.path());
        put(root.path(), ENABLED, "{}");
        put(root.path(), "etc/lastwords.conf", "[report]\nipmi-handle-panic = true\n");
        root
    }

    fn kernel(root: &Path) -> Option<PathBuf> {
        kdump_kernel(root, None).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn configure(root: &Path, text: &str) {
        put(root, "etc/lastwords.conf", text);
    }

    #[test]
    fn the_wrapped_kernel_is_made_once_and_again_when_something_has_changed() {
        let root = enabled();
        let root = root.path();
        let path = kernel(root).unwrap();
        assert_eq!(path, wrapped::path(root, VERSION));
        let bytes = fs::read(&path).unwrap();
        assert_eq!(embedded_parameters(&bytes).unwrap(), "lastwords.ipmi_handle_panic");
        let made = |root: &Path| fs::metadata(wrapped::path(root, VERSION)).unwrap().ino();
        let first = made(root);
        kernel(root).unwrap();
        assert_eq!(made(root), first, "made again, for nothing");

        configure(root, "[report]\noutput-cpu-ip = true\n");
        let path = kernel(root).unwrap();
        assert_eq!(
            embedded_parameters(&fs::read(&path).unwrap()).unwrap(),
            "lastwords.output_cpu_ip=sel,console"
        );
        // A kernel's update under the same name; it was wrapped by hand.
        let other = synthetic::Kernel { body: vec![7; 20_000], ..synthetic::Kernel::default() }.build();
        let other = lastwords_boot::wrap(&other, &crate::arm::image::IMAGE, "lastwords.budget=9");
        let Ok(other) = other else { panic!("{other:?}") };
        put(root, &format!("boot/vmlinuz-{VERSION}"), &other);
        let bytes = fs::read(kernel(root).unwrap()).unwrap();
        assert_eq!(embedded_parameters(&bytes).unwrap(), "lastwords.output_cpu_ip=sel,console");
        assert_eq!(lastwords_boot::unwrap(&bytes).unwrap(), lastwords_boot::unwrap(&other).unwrap());
    }

    #[test]
    fn a_watchdog_whose_record_is_lost_is_written_down_again_or_not_started() {
        let root = enabled();
        let root = root.path();
        configure(root, "[report]\nipmi-handle-panic = true\nipmi-watchdog = \"start=900\"\n");
        let record = root.join("var/lib/lastwords/watchdog.json");
        for damage in ["", "{", "{}"] {
            kernel(root).unwrap();
            assert_eq!(watchdog::planned(root).unwrap().countdown, 900);
            fs::write(&record, damage).unwrap();
            assert_eq!(watchdog::planned(root), None);
        }
        kernel(root).unwrap();
        fs::remove_file(&record).unwrap();
        fs::create_dir(&record).unwrap();
        assert!(kdump_kernel(root, None).is_err());
    }

    #[test]
    fn half_a_kernel_is_never_used() {
        let root = enabled();
        let root = root.path();
        let path = kernel(root).unwrap();
        let whole = fs::read(&path).unwrap();
        let record = fs::read(root.join(wrapped::FOLDER).join(format!("{VERSION}.json"))).unwrap();
        for len in [0, 512, whole.len() / 2, whole.len() - 1] {
            put(root, &path.strip_prefix(root).unwrap().display().to_string(), &whole[..len]);
            assert_eq!(fs::read(kernel(root).unwrap()).unwrap(), whole, "{len}");
        }
        // One flipped bit; a record that is half there; none; temporary files of one that was killed.
        let mut flipped = whole.clone();
        flipped[5000] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(fs::read(kernel(root).unwrap()).unwrap(), whole);
        for text in [&record[..record.len() / 2], b"", b"{}"] {
            fs::write(root.join(wrapped::FOLDER).join(format!("{VERSION}.json")), text).unwrap();
            fs::write(&path, &flipped).unwrap();
            put(root, &format!("{}/.tmpAbCdEf", wrapped::FOLDER), &whole[..100]);
            assert_eq!(fs::read(kernel(root).unwrap()).unwrap(), whole);
        }
    }

    #[test]
    fn what_cannot_be_written_is_a_plain_kernel() {
        let root = enabled();
        let root = root.path();
        put(root, "var/lib/kdump", "no folder");
        let error = kdump_kernel(root, None).unwrap_err();
        assert!(format!("{error:#}").contains("var/lib/kdump"), "{error:#}");
        assert_eq!(Hook { call: Call::KdumpKernel { version: None } }.run(root), ExitCode::SUCCESS);
        assert_eq!(
            Hook { call: Call::KernelInstalled { version: VERSION.into(), image: None } }.run(root),
            ExitCode::SUCCESS
        );
    }

    #[test]
    fn a_broken_configuration_keeps_the_wrapped_kernel_that_is_there() {
        let root = enabled();
        let root = root.path();
        configure(root, "nonsense");
        assert!(kdump_kernel(root, None).is_err());
        configure(root, "[report]\nbudget = 9\n");
        let path = kernel(root);
        assert!(path.is_some());
        for text in ["nonsense", "[sign]\nkey = '/none'\ncert = '/none'\n[report]\nbudget = 9\n"] {
            configure(root, text);
            assert_eq!(kernel(root), path);
        }
        // But not that of another kernel.
        put(root, &format!("boot/vmlinuz-{VERSION}"), synthetic::Kernel::default().build());
        assert!(kdump_kernel(root, None).is_err());
    }

    #[test]
    fn where_nothing_is_reported_or_enabled_kdump_is_plain() {
        let root = enabled();
        let root = root.path();
        configure(root, "");
        assert_eq!(kernel(root), None);
        configure(root, "[report]\nbudget = 9\n");
        for (path, there) in [("proc/vmcore", true), (ENABLED, false)] {
            if there {
                put(root, path, "core");
            } else {
                fs::remove_file(root.join(path)).unwrap();
            }
            Hook { call: Call::KdumpKernel { version: None } }.run(root);
            assert!(!wrapped::path(root, VERSION).exists(), "{path}");
            fs::remove_file(root.join(path)).ok();
        }
        assert!(kernel(root).is_some());
        fs::remove_file(root.join(format!("boot/vmlinuz-{VERSION}"))).unwrap();
        assert!(kdump_kernel(root, None).is_err());
        assert!(kdump_kernel(root, Some("../../etc/passwd")).is_err());
    }

    #[test]
    fn two_at_once_make_one_whole_kernel() {
        let root = enabled();
        let made: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| kernel(root.path()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let path = wrapped::path(root.path(), VERSION);
        assert_eq!(made, vec![Some(path.clone()); 4]);
        assert!(BzImage::parse(&fs::read(path).unwrap()).unwrap().is_wrapped());
        assert_eq!(fs::read_dir(root.path().join(wrapped::FOLDER)).unwrap().count(), 2);
    }

    #[test]
    fn kernels_that_come_and_go_are_wrapped_and_deleted() {
        let root = enabled();
        let root = root.path();
        put(root, "usr/lib/modules/6.12/vmlinuz", synthetic::Kernel::default().build());
        put(root, "elsewhere", synthetic::Kernel::default().build());
        put(root, &format!("{}/vmlinuz-5.10", wrapped::FOLDER), "of a kernel that is gone");
        kernel(root);
        installed(root, "6.12", None).unwrap();
        installed(root, "7.0", Some(&root.join("elsewhere"))).unwrap();
        assert_eq!(wrapped::versions(root), [VERSION, "6.12", "7.0"]);
        Call::KernelRemoved { version: "6.12".into() }.run(root).unwrap();
        Call::KernelRemoved { version: "6.12".into() }.run(root).unwrap();
        assert_eq!(wrapped::versions(root), [VERSION, "7.0"]);
    }

    /// A kdump-tools whose kexec loads only plain kernels.
    fn picky(root: &Path) {
        put(root, "etc/default/kdump-tools", "USE_KDUMP=1\n");
        put(root, "etc/systemd/system/basic.target.wants/x", "");
        std::os::unix::fs::symlink(
            "x",
            root.join("etc/systemd/system/basic.target.wants/kdump-tools.service"),
        )
        .unwrap();
        let loaded = root.join("sys/kernel/kexec_crash_loaded");
        let record = root.join(wrapped::FOLDER).join(format!("{VERSION}.json"));
        let (plain, loaded, record) = (root.join(PLAIN), loaded.display(), record.display());
        let text = format!(
            "if [ -e {} ] || ! grep -q '\"refused\": null' {record}; then echo 1 > {loaded}; else echo 0 > {loaded}; exit 1; fi",
            plain.display()
        );
        program(root, "usr/sbin/kdump-config", &text);
    }

    #[test]
    fn what_kdump_does_not_load_is_put_aside_and_plain_kdump_is_loaded() {
        let root = enabled();
        let root = root.path();
        picky(root);
        assert!(kernel(root).is_some());
        put(root, "sys/kernel/kexec_crash_loaded", "0\n");
        check(root).unwrap();
        assert_eq!(fs::read_to_string(root.join("sys/kernel/kexec_crash_loaded")).unwrap(), "1\n");
        assert_eq!(wrapped::record(root, VERSION).unwrap().refused.unwrap(), "kdump-tools did not load it");
        assert_eq!(kernel(root), None);
        // It is not tried again at each boot, but when something has changed, or somebody asks.
        configure(root, "[report]\nbudget = 9\n");
        assert!(kernel(root).is_some());
        wrapped::put_aside(root, VERSION, "x").unwrap();
        try_again(root).unwrap();
        assert!(kernel(root).is_some());
    }

    #[test]
    fn without_room_for_a_record_it_is_put_aside_for_this_boot() {
        let root = enabled();
        let root = root.path();
        picky(root);
        assert!(kernel(root).is_some());
        // Nothing can be written beside it.
        let record = root.join(wrapped::FOLDER).join(format!("{VERSION}.json"));
        put_aside(root, "no such version", "x");
        assert!(record.exists() && root.join(PLAIN).exists());
        assert_eq!(kernel(root), None);
        try_again(root).unwrap();
        assert!(kernel(root).is_some());
    }

    #[test]
    fn the_net_leaves_alone_what_it_has_no_part_in() {
        let root = enabled();
        let root = root.path();
        picky(root);
        // Switched off; no memory; loaded.
        put(root, "sys/kernel/kexec_crash_loaded", "0\n");
        put(root, "etc/default/kdump-tools", "USE_KDUMP=0\n");
        assert!(check(root).is_ok());
        put(root, "etc/default/kdump-tools", "USE_KDUMP=1\n");
        put(root, "sys/kernel/kexec_crash_size", "0\n");
        assert!(check(root).is_ok());
        put(root, "sys/kernel/kexec_crash_size", "1\n");
        // No wrapped kernel was in use: nothing can be put aside, but it is reported.
        assert!(check(root).unwrap_err().to_string().contains("no dump kernel is loaded"));
        assert_eq!(fs::read_to_string(root.join("sys/kernel/kexec_crash_loaded")).unwrap(), "0\n");
    }
}
