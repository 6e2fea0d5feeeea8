//! Full-size runs of the promises. They take minutes, so only `scripts/soak` runs them.

use std::time::Duration;

use harness::Transport;

use crate::{fan_out, http, library, tiny_chunks};

const GIB: u64 = 1024 * 1024 * 1024;

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_one_block_reader() {
    fan_out::block_readers_get_the_file_byte_for_byte(Transport::Shm, 1, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_four_block_readers() {
    fan_out::block_readers_get_the_file_byte_for_byte(Transport::Shm, 4, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_sixteen_block_readers() {
    fan_out::block_readers_get_the_file_byte_for_byte(Transport::Shm, 16, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_sixteen_block_readers_over_http() {
    fan_out::block_readers_get_the_file_byte_for_byte(Transport::Http, 16, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_drop_readers_except_for_the_reported_gaps() {
    for readers in [1, 4, 16] {
        fan_out::drop_readers_report_what_they_miss(Transport::Shm, readers, GIB);
    }
}

#[test]
#[ignore = "soak: minutes"]
fn ten_million_one_byte_chunks_stay_within_the_ring() {
    tiny_chunks::one_byte_chunks_stay_within_the_ring(Transport::Shm, 10_000_000);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn a_gibibyte_reaches_sixteen_curl_block_readers() {
    http::plain::many::curl_block_readers_get_the_file_byte_for_byte(16, GIB);
}

#[test]
#[ignore = "soak: minutes, and a gibibyte of disk"]
fn sixteen_curl_drop_readers_of_a_gibibyte_fail_if_they_lost_something() {
    http::plain::many::curl_readers_fail_if_they_lost_something(16, GIB);
}

#[test]
#[ignore = "soak: five thousand connections"]
fn five_thousand_idle_sse_readers_cost_little_and_all_get_the_next_chunk() {
    http::sse::idle_readers_cost_little_and_all_get_the_next_chunk(5000);
}

#[test]
#[ignore = "soak: minutes"]
fn block_readers_that_pause_for_minutes_lose_nothing() {
    http::silent::paused_block_readers_are_waited_for(200);
}

#[test]
#[ignore = "soak: minutes"]
fn readers_of_every_kind_that_are_lapped_for_minutes_see_no_torn_byte() {
    library::torn::lapped_readers_see_no_torn_byte(Duration::from_secs(600));
}
