//! Writers of a crowd: one at a time for each stream, over each transport in turn. Half of
//! them die.

use std::{sync::Arc, time::Duration};

use harness::Random;
use pfs_client::{Client, CreateOptions, Finish, IfExists, StreamPath, WriteOptions};
use tokio::{sync::watch::Receiver, time::sleep};

use super::{MOVING, REMOVED, contents::contents, kind::Kind, reader::Crowd, site::RING};

/// Minimum number of bytes that a writer appends; the maximum is twice as many. Both may exceed the
/// ring buffer.
const SHARE: u64 = RING / 2;

/// Largest chunk, in bytes: large enough that daemons send it in parts.
const LARGE: u64 = 300_000;

/// Appends until the run is over, and then closes the stream.
pub(super) async fn run(crowd: Arc<Crowd>, stream: &'static str, over: Receiver<bool>) {
    let path: &StreamPath = &stream.parse().unwrap();
    let mut random = Random::from_the_system();
    let [shm, unix, http] =
        [Kind::Shm, Kind::Unix, Kind::Frames].map(|kind| crowd.site.client(kind));
    let clients = [shm.await, unix.await, http.await];
    for client in clients.iter().cycle() {
        let head = no_writer(&clients[0], path).await;
        if *over.borrow() {
            crowd.ends.lock().unwrap().insert(stream, head);
            return clients[0].close(path).await.unwrap();
        }
        let is_finished = write(client, path, head, &mut random).await;
        if MOVING.contains(&stream) && is_finished {
            let client = &clients[0];
            no_writer(client, path).await;
            if stream == REMOVED { client.remove(path).await } else { client.close(path).await }
                .unwrap();
            pause(&mut random, 1000).await;
            let replace =
                CreateOptions { if_exists: IfExists::Replace, ..CreateOptions::default() };
            client.create(path, &replace).await.unwrap();
        }
    }
}

/// Runs one writer. Returns true if it finished and false if it died.
async fn write(client: &Client, path: &StreamPath, mut head: u64, random: &mut Random) -> bool {
    // On a busy machine, connecting may exceed the time limit of the library.
    let Ok(mut writer) = client.writer(path, WriteOptions::default()).await else { return false };
    let end = head + SHARE + random.below(SHARE);
    // Some writers write at full speed, so that they lap readers.
    let is_fast = random.one_in(4);
    while head < end {
        let most = random.of([100, 10_000, 60_000, LARGE]);
        let len = 1 + random.below(most);
        writer.append(contents(head, len as usize)).await.expect("the stream takes appends");
        head += len;
        if !is_fast {
            pause(random, 200).await;
        }
    }
    if random.one_in(2) {
        return false;
    }
    match writer.finish(Finish::KeepOpen).await {
        Ok(end) => assert_eq!(end, head, "what a writer has appended"),
        // The client then knows that its writer may have died.
        Err(error) => {
            eprintln!("a writer of {path} by {} cannot finish: {error:?}", client.endpoint());
            return false;
        }
    }
    true
}

/// Waits until a stream has no writer, and returns its head.
async fn no_writer(client: &Client, path: &StreamPath) -> u64 {
    loop {
        if let Ok(stat) = client.stat(path).await
            && stat.writers.is_empty()
        {
            return stat.head;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn pause(random: &mut Random, most_ms: u64) {
    sleep(Duration::from_millis(random.below(most_ms))).await;
}
