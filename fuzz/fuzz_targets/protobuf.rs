//! Pages in protobuf format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pipeline_wire::scrape::PageFormat;

fuzz_target!(|data: &[u8]| inferometer_fuzz::scrape::check(PageFormat::Protobuf, data));
