//! The machine for tests.
