//! The one integration test binary: scenarios that start the built program, and the rules of the house.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

mod agent;
mod bad_input;
mod cli;
mod conformance;
mod demo;
mod engines;
mod fuzz_corpus;
mod llm;
mod llm_truth;
mod parts;
mod reference;
mod tidy;
