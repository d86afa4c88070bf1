//! What becomes of a load: one line in the journal, and /run/lastwords/loaded.json, by which `lastwords status` knows since
//! when the dump kernel is loaded, and from which file. What is loaded it reads from the kernel itself (`held`): another
//! program may have loaded something else since, which has another checksum.

use super::{
    file,
    held::{self, Held, Seen, parameters},
    image,
};
use crate::{
    journal::{self, Priority},
    machine::{boot_id, now},
    message,
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// For root alone: the next boot's is empty.
const FILE: &str = "run/lastwords/loaded.json";
/// The schema's version.
const SCHEMA: u32 = 1;

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    schema: u32,
    /// The boot in which it was.
    boot_id: String,
    /// The checksum of what the kernel held then.
    image: Option<String>,
    /// When, in seconds since 1970.
    pub time: i64,
    /// The dump kernel's file.
    pub kernel: PathBuf,
    /// Its release: the file may be gone when somebody asks.
    #[serde(default)]
    pub release: Option<String>,
}

/// What we have loaded ourselves.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// The dump kernel's file.
    pub kernel: &'a Path,
    /// There is no dump kernel in it.
    pub alone: bool,
    /// The loading method, as `Held::method` has it.
    pub method: &'a str,
    /// The lines with parameters that the image reads.
    pub lines: [&'a str; 2],
}

/// A dump kernel has been loaded: remembers it and writes a line to the journal. Where nothing can be written, all is as
/// well, but for whoever looks later.
pub fn announce(root: &Path, own: Option<Own<'_>>) {
    let seen = held::look(root, own.map(|own| own.kernel));
    // Of a load that somebody else has announced already: the first time counts.
    if own.is_none() && seen.checksum().is_some_and(|image| remembered(root, image).is_some()) {
        return;
    }
    if let Err(error) = remember(root, own, &seen) {
        // What was loaded before is gone. The checksum would show it.
        forget(root);
        message::warning(&error.context("lastwords status will not show since when it is loaded"));
    }
    let line = Line::new(own, &seen);
    // Not every system has a journal.
    let _ = journal::send(root, Priority::Info, &line.message(), &line.fields());
}

/// Nothing is loaded any more.
pub fn forget(root: &Path) {
    // The checksum would show it.
    let _ = fs::remove_file(root.join(FILE));
}

fn remember(root: &Path, own: Option<Own<'_>>, seen: &Seen) -> Result<()> {
    let held = match seen {
        Seen::Hidden | Seen::Other(_) => None,
        Seen::Held(held) => held.kernel.as_ref(),
    };
    let own = own.map(|own| fs::canonicalize(own.kernel).unwrap_or_else(|_| own.kernel.to_owned()));
    let loaded = Loaded {
        schema: SCHEMA,
        boot_id: boot_id(root).context("/proc/sys/kernel/random/boot_id")?,
        image: seen.checksum().map(str::to_owned),
        time: now(),
        kernel: own.or_else(|| held.map(|kernel| kernel.path.clone())).unwrap_or_default(),
        release: held.and_then(|kernel| kernel.release.clone()),
    };
    let path = root.join(FILE);
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        let text = serde_json::to_string_pretty(&loaded)?;
        file::replace(&path, text.as_bytes(), &fs::Permissions::from_mode(0o600))
    };
    write().with_context(|| path.display().to_string())
}

/// What was written of this boot's last load.
pub fn last(root: &Path) -> Option<Loaded> {
    let path = root.join(FILE);
    // Not a pipe that nobody writes to.
    if !fs::metadata(&path).ok()?.is_file() {
        return None;
    }
    let loaded: Loaded = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (loaded.schema == SCHEMA && Some(&loaded.boot_id) == boot_id(root).as_ref()).then_some(loaded)
}

/// What was written of the load with this checksum.
pub fn remembered(root: &Path, checksum: &str) -> Option<Loaded> {
    last(root).filter(|loaded| loaded.image.as_deref() == Some(checksum))
}

/// The line in the journal.
struct Line {
    alone: bool,
    kernel: String,
    method: String,
    plan: String,
    image: String,
}

impl Line {
    /// What the kernel shows counts; where it shows nothing, what we have loaded.
    fn new(own: Option<Own<'_>>, seen: &Seen) -> Self {
        let text = |path: &Path| message::path(path);
        if let Seen::Held(held) = seen {
            let Held { kernel, image, .. } = &**held;
            let own = own.map(|own| text(own.kernel));
            return Self {
                alone: held.alone,
                kernel: own.or_else(|| kernel.as_ref().map(|kernel| text(&kernel.path))).unwrap_or_default(),
                method: held.method(),
                plan: held.lines().map(parameters).unwrap_or_default(),
                image: image.as_ref().and_then(|image| image.checksum.clone()).unwrap_or_default(),
            };
        }
        let reports = own.map(|own| parameters(own.lines)).unwrap_or_default();
        Self {
            alone: own.is_some_and(|own| own.alone),
            kernel: own.map(|own| text(own.kernel)).unwrap_or_default(),
            method: own.map(|own| own.method.to_owned()).unwrap_or_default(),
            image: own.map(|_| image::CHECKSUM.to_owned()).unwrap_or_default(),
            plan: reports,
        }
    }

    fn message(&self) -> String {
        let Self { alone, kernel, method, plan, image } = self;
        let what = if *alone { "loaded without a dump kernel" } else { "dump kernel loaded" };
        let known = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        let (kernel, method) = (known(kernel), known(method));
        let plan = if plan.is_empty() { "no parameters" } else { plan };
        if image.is_empty() {
            format!("{what}: {kernel}, {method}, no panic reporting known")
        } else {
            format!("{what}: {kernel}, {method}, {plan}, image SHA-256 {image}")
        }
    }

    /// Without those of which nothing is known.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("LASTWORDS_KERNEL", &self.kernel),
            ("LASTWORDS_METHOD", &self.method),
            ("LASTWORDS_PLAN", &self.plan),
            ("LASTWORDS_IMAGE", &self.image),
        ];
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, value.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::kimage;
    use std::os::unix::net::UnixDatagram;

    /// A machine in this boot, that holds a record like this.
    fn boot(root: &Path, id: &str, record: u8) {
        kimage::tests::hold(root, record);
        fs::create_dir_all(root.join("proc/sys/kernel/random")).unwrap();
        fs::write(root.join("proc/sys/kernel/random/boot_id"), format!("{id}\n")).unwrap();
    }

    fn own() -> Own<'static> {
        Own {
            kernel: Path::new("/nonexistent/vmlinuz"),
            alone: false,
            method: "wrap (kexec_file_load)",
            lines: [
                "lastwords.ipmi_handle_panic",
                "root=/dev/sda1 console=ttyS0 lastwords.budget=9 -- lastwords.for_init",
            ],
        }
    }

    fn is_remembered(root: &Path) -> bool {
        let Seen::Other(checksum) = held::look(root, None) else { return false };
        remembered(root, &checksum).is_some()
    }

    #[test]
    fn what_is_remembered_holds_as_long_as_the_kernel_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(!is_remembered(root));
        boot(root, "one", 1);
        assert!(!is_remembered(root));
        announce(root, Some(own()));
        assert!(is_remembered(root));
        assert_eq!(last(root).unwrap().kernel, own().kernel);

        // Somebody else has loaded something; the machine has booted again; it no longer shows what it holds.
        boot(root, "one", 2);
        assert!(!is_remembered(root));
        boot(root, "two", 1);
        assert!(!is_remembered(root) && last(root).is_none());
        boot(root, "one", 1);
        assert!(is_remembered(root));
        fs::remove_file(root.join("proc/kcore")).unwrap();
        assert!(!is_remembered(root));
        forget(root);
        assert_eq!(last(root), None);
    }

    #[test]
    fn a_load_that_is_announced_again_keeps_its_time_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        boot(root, "one", 1);
        announce(root, Some(own()));
        let path = root.join(FILE);
        let early = fs::read_to_string(&path).unwrap().replace("\"time\": ", "\"time\": 1, \"later\": ");
        fs::write(&path, early).unwrap();
        announce(root, None);
        assert_eq!((last(root).unwrap().time, last(root).unwrap().kernel.as_path()), (1, own().kernel));
        boot(root, "one", 2);
        announce(root, None);
        assert!(last(root).unwrap().time > 1 && last(root).unwrap().kernel.as_os_str().is_empty());
    }

    #[test]
    fn a_broken_file_is_nothing_known() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("run/lastwords")).unwrap();
        for text in ["", "{}", "null", "{\"schema\": 1"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(last(folder.path()), None);
        }
    }

    #[test]
    fn the_journal_has_one_line_with_plan_and_image() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        boot(root, "one", 1);
        fs::create_dir_all(root.join("run/systemd/journal")).unwrap();
        let journal = UnixDatagram::bind(root.join("run/systemd/journal/socket")).unwrap();
        journal.set_nonblocking(true).unwrap();
        announce(root, Some(own()));
        let mut datagram = [0; 4096];
        let len = journal.recv(&mut datagram).unwrap();
        let text = std::str::from_utf8(&datagram[..len]).unwrap();
        let (plan, image) = ("lastwords.ipmi_handle_panic lastwords.budget=9", image::CHECKSUM);
        assert_eq!(
            text,
            format!(
                "PRIORITY=6\nSYSLOG_IDENTIFIER=lastwords\nMESSAGE=dump kernel loaded: /nonexistent/vmlinuz, wrap \
                 (kexec_file_load), {plan}, image SHA-256 {image}\nLASTWORDS_KERNEL=/nonexistent/vmlinuz\n\
                 LASTWORDS_METHOD=wrap (kexec_file_load)\nLASTWORDS_PLAN={plan}\nLASTWORDS_IMAGE={image}\n"
            )
        );
        // Announced again, by a hook.
        announce(root, None);
        assert!(journal.recv(&mut datagram).is_err());
        // What another program has loaded, and nobody understands.
        boot(root, "one", 2);
        announce(root, None);
        let len = journal.recv(&mut datagram).unwrap();
        let text = std::str::from_utf8(&datagram[..len]).unwrap();
        assert!(
            text.contains("unknown, unknown, no panic reporting known\n") && !text.contains("LASTWORDS_"),
            "{text}"
        );
    }
}
