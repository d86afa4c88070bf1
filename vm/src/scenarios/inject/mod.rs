//! Events at chosen instructions of the image, and flipped bytes in it: is the dump kernel reached all the same?
//!
//! `state` has machines whose crash has happened and which stand before the image's first instruction; `bench` puts
//! such a machine back there as often as wanted and lets it go on; `code` tells which instructions there are; `lost`
//! holds the places where the dump is lost against the list of those that are known. The dump kernel is one of a few
//! KB (`guest/payload.s`), so that a case takes a fraction of a second.

mod bench;
mod code;
mod lost;
mod plan;
mod state;

pub use bench::{Act, Bench, End, Event, Instruction};
pub use code::{Code, Place};
pub use lost::Lost;
pub use plan::{Case, Extent, run};
pub use state::{State, Way};
