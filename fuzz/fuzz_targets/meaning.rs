#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| callgate::fuzz::run("meaning", bytes));
