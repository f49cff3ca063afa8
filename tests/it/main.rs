//! The one integration test binary: scenarios that start the built program, and the rules of the house.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it stands")]

mod reference;
mod tidy;
