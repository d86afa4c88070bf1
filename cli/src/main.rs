//! Arms a Linux kdump kernel.
fn main() {}
