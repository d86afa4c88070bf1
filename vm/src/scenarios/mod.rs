//! What happens to a machine: how it is set up, armed and killed; faults, figures and the demo's story.

pub mod crash_kinds;
pub mod damage;
pub mod debian;
pub mod faults;
pub mod figures;
mod guest;
pub mod inject;
mod kept;
mod run;
mod scenario;
pub mod shapes;
pub mod story;

pub use scenario::{Arm, Call, Scenario};
