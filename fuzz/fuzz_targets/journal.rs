//! Files of a journal after any damage.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| inferometer_fuzz::journal::check(data));
