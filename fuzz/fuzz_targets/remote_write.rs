//! Batches to remote write and back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| inferometer_fuzz::remote_write::check(data));
