//! Physical memory in pieces; what is in none of them cannot be read.

use std::collections::BTreeMap;

/// Memory.
#[derive(Default)]
pub struct Ram {
    pieces: BTreeMap<u64, Vec<u8>>,
    /// Every range that was asked for: address and length.
    pub reads: Vec<(u64, usize)>,
}

impl Ram {
    /// Puts a piece of memory at an address.
    pub fn put(&mut self, addr: u64, bytes: Vec<u8>) {
        self.pieces.insert(addr, bytes);
    }

    pub(crate) fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        self.reads.push((addr, buf.len()));
        let Some((start, piece)) = self.pieces.range(..=addr).next_back() else { return false };
        let from = usize::try_from(addr - start).expect("pieces are small");
        match piece.get(from..from + buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    pub(crate) fn write(&mut self, addr: u64, bytes: &[u8]) {
        if let Some((start, piece)) = self.pieces.range_mut(..=addr).next_back() {
            let from = usize::try_from(addr - start).expect("pieces are small");
            if let Some(place) = piece.get_mut(from..from + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
    }

    /// All pieces, with their addresses.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|(addr, bytes)| (*addr, bytes.as_slice()))
    }

    /// A copy of what lies in a range that is all in one piece.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn get(&self, addr: u64, len: usize) -> Vec<u8> {
        let (start, piece) = self.pieces.range(..=addr).next_back().expect("there is a piece");
        let from = usize::try_from(addr - start).expect("pieces are small");
        piece[from..from + len].to_vec()
    }
}
