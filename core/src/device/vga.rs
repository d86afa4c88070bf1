//! The VGA text screen: 25 lines of 80 cells, that scroll up one line for each line that is written.

use crate::arch;
use crate::hw::Memory;

const ROWS: u64 = 25;
const COLUMNS: usize = 80;
const ROW_LEN: u64 = 2 * COLUMNS as u64;
/// Light grey on black.
const ATTRIBUTE: u8 = 0x07;

/// Scrolls the screen up and writes a line at its bottom. What is longer than a row is cut. Where the architecture has
/// no such screen nothing is touched.
pub fn line<M: Memory>(memory: &mut M, text: &[u8]) {
    let Some(screen) = arch::TEXT_SCREEN else { return };
    let mut row = [0; ROW_LEN as usize];
    for line in 1..ROWS {
        if memory.read(screen + line * ROW_LEN, &mut row) {
            memory.write(screen + (line - 1) * ROW_LEN, &row);
        }
    }
    let blank = core::iter::repeat(&b' ');
    for (cell, byte) in row.chunks_exact_mut(2).zip(text.iter().chain(blank)) {
        if let [glyph, attribute] = cell {
            *glyph = *byte;
            *attribute = ATTRIBUTE;
        }
    }
    memory.write(screen + (ROWS - 1) * ROW_LEN, &row);
}
