//! Compile-time checks of auto traits: handles are `Send`, and errors convert to boxed errors.

use std::error::Error;

use crate::*;

fn goes_anywhere<T: Send + Unpin + 'static>() {}
fn is_an_error<T: Error + Send + Sync + 'static>() {}
fn may_be_spawned(_: impl Future + Send) {}

#[test]
fn every_handle_may_go_to_another_thread_and_be_polled_unpinned() {
    goes_anywhere::<Client>();
    goes_anywhere::<Reader>();
    goes_anywhere::<Writer>();
    goes_anywhere::<Events>();
    goes_anywhere::<Chunks>();
    goes_anywhere::<Endpoint>();
    goes_anywhere::<blocking::Client>();
    goes_anywhere::<blocking::Reader>();
    goes_anywhere::<blocking::Writer>();
}

#[test]
fn every_async_method_may_be_spawned() {
    async fn all(client: Client, path: StreamPath, mut reader: Reader, mut writer: Writer) {
        may_be_spawned(Client::connect(Endpoint::default()));
        may_be_spawned(client.reader(&path, ReadOptions::default()));
        may_be_spawned(client.writer(&path, WriteOptions::default()));
        may_be_spawned(client.events(&path));
        may_be_spawned(client.stat(&path));
        may_be_spawned(reader.next());
        may_be_spawned(reader.next_batch(&mut Chunks::new()));
        may_be_spawned(writer.append(b""));
        may_be_spawned(writer.push(b""));
        may_be_spawned(writer.flush());
        may_be_spawned(writer.finish(Finish::Close));
    }
    let _ = all;
}

#[test]
fn every_error_may_go_to_another_thread_and_into_a_box() {
    is_an_error::<ConnectError>();
    is_an_error::<RequestError>();
    is_an_error::<ReadError>();
    is_an_error::<WriteError>();
    is_an_error::<ProtocolError>();
    #[cfg(feature = "http")]
    is_an_error::<EndpointError>();
}
