//! The bench: a real kernel in QEMU with a BMC, panicked on purpose, and what came of it.
//!
//! Three rooms, each of which knows only those before it:
//!
//! - [`machine`]: QEMU, its monitor and debugger, BMCs, kernels and what the guests run.
//! - [`judge`]: reads what came of it, with nothing of lastwords' own.
//! - [`scenarios`]: what happens to a machine; its [`judge::outcome::Outcome`] holds the console's lines with their
//!   times and all that the dump kernel found.
//!
//! Everything is Debian's own (kernels, kexec-tools, ipmitool, makedumpfile), because the point is to show that
//! lastwords works with what people have. `vm/README.md` tells how to run and to extend it.

pub mod judge;
pub mod machine;
pub mod scenarios;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Every Rust file below a folder of this crate, and its text.
    fn files(folder: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: &Path| (path.display().to_string(), fs::read_to_string(path).unwrap());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![read(&path)] }).collect()
    }

    #[test]
    fn a_room_knows_only_those_before_it() {
        for (room, strangers) in
            [("machine", &["crate::judge", "crate::scenarios"][..]), ("judge", &["crate::scenarios"])]
        {
            let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room));
            assert!(!files.is_empty());
            for (path, text) in files {
                let found = strangers.iter().find(|stranger| text.contains(**stranger));
                assert_eq!(found, None, "in {path}");
            }
        }
    }
}
