//! What to do after a panic: where the dump is, and which vmlinux `crash` needs for it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where kdump-tools, kdumpctl and SUSE's kdump put dumps by default.
pub const FOLDER: &str = "/var/crash";
/// Seconds in which a dump is written and its machine's clock may have been set.
const LONGEST: i64 = 24 * 60 * 60;

/// The dump of a crash at the time `from`, the next one being at `to` (seconds since 1970 by this machine's clock): the
/// first one that was finished between. Not one that is incomplete.
#[must_use]
pub fn vmcore(root: &Path, from: i64, to: Option<i64>) -> Option<PathBuf> {
    let times = from..to.unwrap_or(i64::MAX).min(from.saturating_add(LONGEST));
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    let crash = root.join(FOLDER.trim_start_matches('/'));
    let dumps = list(&crash).into_iter().flat_map(|entry| list(&entry.path())).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_dump = name.starts_with("vmcore") || name.starts_with("dump.");
        let is_text = name.contains("dmesg") || name.contains("incomplete");
        let finished = entry.metadata().ok()?.mtime();
        (is_dump && !is_text && times.contains(&finished)).then(|| (finished, entry.path()))
    });
    let (_, path) = dumps.min()?;
    Some(Path::new("/").join(path.strip_prefix(root).unwrap_or(&path)))
}

/// The vmlinux with debug information of this release: the one that is here, else where its distribution puts it.
#[must_use]
pub fn vmlinux(root: Option<&Path>, release: &str) -> String {
    let debian = format!("/usr/lib/debug/boot/vmlinux-{release}");
    let fedora = format!("/usr/lib/debug/lib/modules/{release}/vmlinux");
    let suse = format!("{debian}.debug");
    let is_here = |path: &&String| root.is_some_and(|root| root.join(path.trim_start_matches('/')).exists());
    if let Some(path) = [&debian, &fedora, &suse].into_iter().find(is_here) {
        return path.clone();
    }
    let is_fedora = [".el", ".fc", ".amzn"].iter().any(|mark| release.contains(mark));
    if is_fedora { fedora } else { debian }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        time::{Duration, SystemTime},
    };

    #[test]
    fn a_dump_is_found_by_its_time() {
        let root = tempfile::tempdir().unwrap();
        for (name, time) in [
            ("202611230138/dmesg.202611230138", 1000),
            ("202611230138/dump.202611230138", 1010),
            ("127.0.0.1-2026-11-23-02:00:00/vmcore", 2010),
            ("127.0.0.1-2026-11-23-02:00:00/vmcore-dmesg.txt", 2001),
            ("2026-11-23-03:00/vmcore-incomplete", 3010),
        ] {
            let path = root.path().join("var/crash").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            File::create(path).unwrap().set_modified(time).unwrap();
        }
        let found = |from, to| vmcore(root.path(), from, to).map(|path| path.display().to_string());
        assert_eq!(found(990, Some(1900)).as_deref(), Some("/var/crash/202611230138/dump.202611230138"));
        assert_eq!(found(1990, None).as_deref(), Some("/var/crash/127.0.0.1-2026-11-23-02:00:00/vmcore"));
        assert_eq!(found(3000, None), None);
        assert_eq!(found(500, Some(990)), None);
        assert_eq!(found(i64::MAX, None), None);
    }

    #[test]
    fn a_vmlinux_is_where_it_is_or_where_the_release_puts_it() {
        let root = tempfile::tempdir().unwrap();
        let here = Some(root.path());
        assert_eq!(vmlinux(here, "6.1.0-56-amd64"), "/usr/lib/debug/boot/vmlinux-6.1.0-56-amd64");
        let fedora = "/usr/lib/debug/lib/modules/6.11.4-301.fc41.x86_64/vmlinux";
        assert_eq!(vmlinux(None, "6.11.4-301.fc41.x86_64"), fedora);
        fs::create_dir_all(root.path().join("usr/lib/debug/boot")).unwrap();
        fs::write(root.path().join("usr/lib/debug/boot/vmlinux-6.4.0-default.debug"), "").unwrap();
        assert_eq!(vmlinux(here, "6.4.0-default"), "/usr/lib/debug/boot/vmlinux-6.4.0-default.debug");
    }
}
