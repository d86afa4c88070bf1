//! The archive format of an initramfs, "newc" (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Written here rather than by cpio(1), so that an archive is a function of its contents: no folder to fill first,
//! no root rights for its owners, no times of day in it.

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder. What is in it comes after it.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, &[]);
    }

    /// Adds a file with these permissions.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, 0o100_000 | permissions, content);
    }

    /// The whole archive, to a multiple of 512 bytes so that another one may follow it.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.pad(512);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("no file in an initramfs has 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("a path has less than 4 GiB");
        // inode, mode, uid, gid, links, mtime, size, device (2), device it stands for (2), name's length, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend(content);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_entry_is_a_header_a_name_and_the_content_each_padded() {
        let mut archive = Archive::default();
        archive.folder("a");
        archive.file("a/b", 0o644, b"hello");
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed", "mode of a folder");
        let file = (110usize + 2).next_multiple_of(4);
        assert_eq!(&bytes[file + 54..file + 62], b"00000005", "size");
        assert_eq!(&bytes[file + 110..file + 114], b"a/b\0");
        let content = (file + 114).next_multiple_of(4);
        assert_eq!(&bytes[content..content + 8], b"hello\0\0\0");
        assert_eq!(&bytes[content + 8..content + 14], b"070701");
        assert_eq!(bytes.len() % 512, 0);
    }
}
