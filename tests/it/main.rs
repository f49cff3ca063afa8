//! The one integration test binary: scenarios that start the built program, and the rules of the house.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

mod agent;
mod bad_input;
mod cli;
mod conformance;
mod delivery;
mod demo;
mod engines;
mod flow;
mod fuzz_corpus;
mod kill9;
mod llm;
mod llm_truth;
mod otlp;
mod parts;
mod reference;
mod remote_write;
mod tidy;
