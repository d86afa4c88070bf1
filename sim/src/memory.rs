//! Physical memory in pieces; what is in none of them cannot be read.
//!
//! Where a report's instructions are counted, these are counted with it: what was read last is looked at first.

/// Memory.
#[derive(Default)]
pub struct Ram {
    /// By address.
    pieces: Vec<(u64, Vec<u8>)>,
    /// The one that was read last.
    last: usize,
    /// Every range that was asked for: address and length.
    pub reads: Vec<(u64, usize)>,
}

impl Ram {
    /// Puts a piece of memory at an address.
    pub fn put(&mut self, addr: u64, bytes: Vec<u8>) {
        match self.pieces.binary_search_by_key(&addr, |(start, _)| *start) {
            Ok(at) => self.pieces[at].1 = bytes,
            Err(at) => self.pieces.insert(at, (addr, bytes)),
        }
    }

    /// The piece that begins last of those that begin at `addr` or before.
    fn piece(&self, addr: u64) -> Option<usize> {
        self.pieces.partition_point(|(start, _)| *start <= addr).checked_sub(1)
    }

    /// What lies in a range of a piece.
    #[inline]
    fn range(&self, piece: usize, addr: u64, len: usize) -> Option<&[u8]> {
        let (start, bytes) = self.pieces.get(piece)?;
        bytes.get(usize::try_from(addr.wrapping_sub(*start)).ok()?..)?.get(..len)
    }

    pub(crate) fn read(&mut self, addr: u64, buf: &mut [u8]) -> bool {
        self.reads.push((addr, buf.len()));
        let bytes = match self.range(self.last, addr, buf.len()) {
            None => {
                self.last = self.piece(addr).unwrap_or(0);
                self.range(self.last, addr, buf.len())
            }
            bytes => bytes,
        };
        bytes.map(|bytes| buf.copy_from_slice(bytes)).is_some()
    }

    pub(crate) fn write(&mut self, addr: u64, bytes: &[u8]) {
        let Some((start, piece)) = self.piece(addr).map(|at| &mut self.pieces[at]) else { return };
        let from = usize::try_from(addr - *start).expect("pieces are small");
        if let Some(place) = piece.get_mut(from..from + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// All pieces, with their addresses.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|(addr, bytes)| (*addr, bytes.as_slice()))
    }

    /// A copy of what lies in a range, where it is all in one piece.
    pub(crate) fn copy(&self, addr: u64, len: usize) -> Option<Vec<u8>> {
        Some(self.range(self.piece(addr)?, addr, len)?.to_vec())
    }

    /// A copy of what lies in a range that is all in one piece.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn get(&self, addr: u64, len: usize) -> Vec<u8> {
        let piece = self.piece(addr).expect("there is a piece");
        self.range(piece, addr, len).expect("it is all in the piece").to_vec()
    }
}
