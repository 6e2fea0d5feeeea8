//! Compile-time tests: which types are `Send`, `Sync` and `Unpin`, and which are errors.

use std::error::Error;

use super::*;

fn goes_anywhere<T: Send + Sync + Unpin + 'static>() {}
fn is_an_error<T: Error + Send + Sync + 'static>() {}

#[test]
fn every_handle_and_adapter_is_send_sync_and_unpin() {
    goes_anywhere::<Stream>();
    goes_anywhere::<Registry>();
    goes_anywhere::<Reader>();
    goes_anywhere::<Writer>();
    goes_anywhere::<Events>();
    goes_anywhere::<PendingReader>();
    goes_anywhere::<ByteStream<Reader>>();
    goes_anywhere::<EventStream<Reader>>();
    goes_anywhere::<ByteIter<Reader>>();
    goes_anywhere::<EventIter<Reader>>();
    goes_anywhere::<Throttle<StallDetector<Reader>>>();
    goes_anywhere::<Throttle<Writer>>();
    goes_anywhere::<TypedReader<String>>();
    goes_anywhere::<TypedWriter<String>>();
}

#[test]
fn every_error_is_send_and_sync() {
    is_an_error::<CreateError>();
    is_an_error::<AttachError>();
    is_an_error::<WriteError>();
    is_an_error::<ReadError>();
    is_an_error::<ReadError>();
    is_an_error::<WriteError>();
    is_an_error::<LostData>();
    is_an_error::<TypedReadError>();
    is_an_error::<TypedWriteError>();
}
