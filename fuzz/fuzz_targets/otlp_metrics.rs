//! OTLP metrics in protobuf.
#![no_main]

use inferometer_fuzz::otlp::{Encoding, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| check(Encoding::Protobuf, data));
