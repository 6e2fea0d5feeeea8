//! The promises at the size that they were made for. Minutes long, so they run only when asked for:
//! `cargo build --release && cargo test --release -p pfs-tests soak -- --ignored --test-threads 1`

use crate::{fan_out, tiny_chunks};

const GIB: u64 = 1 << 30;

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_one_block_reader() {
    fan_out::block_readers_get_the_file_byte_for_byte(1, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_four_block_readers() {
    fan_out::block_readers_get_the_file_byte_for_byte(4, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_sixteen_block_readers() {
    fan_out::block_readers_get_the_file_byte_for_byte(16, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_drop_readers_but_for_what_they_report() {
    for readers in [1, 4, 16] {
        fan_out::drop_readers_report_what_they_miss(readers, GIB);
    }
}

#[test]
#[ignore = "soak: minutes"]
fn ten_million_one_byte_chunks_stay_within_the_ring() {
    tiny_chunks::one_byte_chunks_stay_within_the_ring(10_000_000, 200_000.0);
}
