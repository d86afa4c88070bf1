//! A kernel for tests: the headers of a bzImage as Linux' own build makes them, around code that is only filling. And an
//! image that is only a header, which is all that wrapping looks at.

use crate::bytes::put;
use lastwords_core::abi;

/// What is to be different in the kernel. [`Kernel::default`] is a 64-bit kernel with a PE header, unsigned.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Boot protocol version; it and the next four are fields of setup_header.
    pub version: u16,
    /// `xloadflags`.
    pub xloadflags: u16,
    /// `init_size`.
    pub init_size: u32,
    /// `cmdline_size`.
    pub cmdline_size: u32,
    /// `setup_sects`.
    pub setup_sects: u8,
    /// CONFIG_EFI_STUB.
    pub pe: bool,
    /// A certificate table of this many bytes.
    pub certificates: usize,
    /// Code and data from the 64-bit entry on.
    pub body: Vec<u8>,
    /// Where the zeros before the 64-bit entry start.
    pub padding: usize,
}

impl Default for Kernel {
    fn default() -> Self {
        // Bytes with no pattern that could be taken for the hook's.
        let body = (0u32..12_000).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        Self {
            version: 0x20f,
            xloadflags: 0x7f,
            init_size: 0x40_0000,
            cmdline_size: 2047,
            setup_sects: 7,
            pe: true,
            certificates: 0,
            body,
            padding: 0x150,
        }
    }
}

impl Kernel {
    /// Length of the setup part in bytes.
    #[must_use]
    pub fn setup_len(&self) -> usize {
        let sectors = if self.setup_sects == 0 { 4 } else { usize::from(self.setup_sects) };
        (sectors + 1) * 512
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let setup_len = self.setup_len();
        let mut protected_mode = vec![0x90; self.padding];
        protected_mode.resize(0x200, 0);
        protected_mode.extend(&self.body);
        protected_mode.resize(protected_mode.len().next_multiple_of(16), 0);

        let mut file = vec![0; setup_len];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x1f1, &[self.setup_sects]);
        put(0x1f4, &((protected_mode.len() / 16) as u32).to_le_bytes());
        put(0x1fe, &[0x55, 0xaa]);
        put(0x202, b"HdrS");
        put(0x206, &self.version.to_le_bytes());
        put(0x211, &[1]);
        put(0x236, &self.xloadflags.to_le_bytes());
        put(0x238, &self.cmdline_size.to_le_bytes());
        put(0x260, &self.init_size.to_le_bytes());
        let len = setup_len + protected_mode.len();
        if self.pe {
            put(0, b"MZ");
            put(0x3c, &[0x40]);
            put(0x40, &self.pe_header(setup_len as u32, protected_mode.len() as u32, len as u32));
        }
        file.extend(protected_mode);
        file.extend(std::iter::repeat_n(0x5a, self.certificates));
        file
    }

    /// PE signature, COFF header, optional header with six directories and two sections.
    fn pe_header(&self, setup_len: u32, code_len: u32, len: u32) -> Vec<u8> {
        let mut header = b"PE\0\0".to_vec();
        // Machine, NumberOfSections; time stamp and symbols (none); SizeOfOptionalHeader, Characteristics; then the
        // optional header: PE32+, linker version.
        for half in [0x8664u16, 2, 0, 0, 0, 0, 0, 0, 160, 0x20e, 0x20b, 0] {
            header.extend(half.to_le_bytes());
        }
        let size_of_image = (len + 0x10000).next_multiple_of(0x1000);
        let [table, size] = if self.certificates == 0 { [0, 0] } else { [len, self.certificates as u32] };
        let words = [
            // SizeOfCode, data, bss; AddressOfEntryPoint, BaseOfCode; ImageBase; SectionAlignment, FileAlignment
            &[code_len, 0, 0, setup_len + 0x200, setup_len, 0, 0, 0x1000, 0x200][..],
            // versions; SizeOfImage, SizeOfHeaders, CheckSum, Subsystem and DllCharacteristics
            &[0, 0, 0, 0, size_of_image, 0x200, 0, 10],
            // stack and heap; LoaderFlags, NumberOfRvaAndSizes
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 6],
            // the data directory
            &[0, 0, 0, 0, 0, 0, 0, 0, table, size, 0, 0],
        ];
        for word in words.into_iter().flatten() {
            header.extend(word.to_le_bytes());
        }
        for (name, start, end, characteristics) in
            [(b".setup\0\0", 0x200, setup_len, 0x4200_0040), (b".text\0\0\0", setup_len, len, 0x6000_0020)]
        {
            header.extend(name);
            for value in [end - start, start, end - start, start, 0, 0, 0, characteristics] {
                header.extend(u32::to_le_bytes(value));
            }
        }
        header
    }
}

/// A flat image of this many bytes that needs this much memory.
#[must_use]
pub fn image(len: usize, memory_size: u32) -> Vec<u8> {
    let mut image = vec![0xcc; len];
    put(&mut image, 0, &abi::MAGIC);
    put(&mut image, abi::VERSION_AT, &abi::VERSION.to_le_bytes());
    put(&mut image, abi::ENTRY, &600u32.to_le_bytes());
    put(&mut image, abi::FILE_SIZE, &(len as u32).to_le_bytes());
    put(&mut image, abi::MEMORY_SIZE, &memory_size.to_le_bytes());
    image
}

/// A UKI of these sections: as ukify puts them behind systemd's EFI stub, here without the stub.
#[must_use]
pub fn uki(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const ALIGNMENT: usize = 512;
    let mut file = vec![0; 0x40];
    put(&mut file, 0, b"MZ");
    put(&mut file, 0x3c, &[0x40]);
    file.extend(b"PE\0\0");
    for half in [0x8664u16, sections.len() as u16, 0, 0, 0, 0, 0, 0, 240, 0x22] {
        file.extend(half.to_le_bytes());
    }
    file.extend([0x0b, 0x02]);
    file.resize(file.len() + 238, 0);
    let headers_end = (file.len() + 40 * sections.len()).next_multiple_of(ALIGNMENT);
    let mut start = headers_end.max(4096);
    for (name, bytes) in sections {
        let mut entry = [0; 40];
        put(&mut entry, 0, name.as_bytes());
        let raw = bytes.len().next_multiple_of(ALIGNMENT);
        for (at, number) in [(8, bytes.len()), (12, start), (16, raw), (20, start)] {
            put(&mut entry, at, &(number as u32).to_le_bytes());
        }
        file.extend(entry);
        start += raw;
    }
    file.resize(headers_end.max(4096), 0);
    for (_, bytes) in sections {
        file.extend(*bytes);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    }
    file
}
