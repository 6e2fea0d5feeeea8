//! Writers: at the owner, and at daemons that mount its streams.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use pfs_proto::WriteOptions;
use pfs_stream::{Finish, Stream, Writer};
use tokio::time::{Duration, sleep};

use super::{
    ledger::{LARGEST, contents},
    network::Network,
    random::Random,
    schedule::World,
};

/// How a writer leaves.
fn departure(random: &mut Random) -> Option<Finish> {
    match random.below(4) {
        0 => None,
        1 => Some(Finish::Failed),
        _ => Some(Finish::KeepOpen),
    }
}

/// Appends to the stream that the owner has, until the world ends. `pace` is the longest pause
/// between two bursts.
pub(crate) async fn write(world: Arc<World>, mut random: Random, pace: Duration) {
    while !world.hurries.load(SeqCst) {
        let Some((number, stream)) = world.ledger.current(&world.network) else {
            sleep(pace).await;
            continue;
        };
        let pen = world.pen.lock().await;
        world.ledger.look(number);
        let Ok(mut writer) = stream.writer() else {
            drop(pen);
            sleep(pace).await;
            continue;
        };
        world.ledger.writer(number, true);
        drop(pen);
        let bursts = random.size(20);
        for _ in 0..bursts {
            sleep(pace.mul_f64(random.below(100) as f64 / 100.0)).await;
            if world.hurries.load(SeqCst)
                || burst(&world, &(number, stream.clone()), &mut writer, &mut random).await.is_err()
            {
                break;
            }
        }
        let pen = world.pen.lock().await;
        match departure(&mut random) {
            Some(finish) => {
                writer.finish(finish);
            }
            None => drop(writer),
        }
        world.ledger.writer(number, false);
        drop(pen);
        sleep(pace).await;
    }
}

/// Appends some chunks.
async fn burst(
    world: &World,
    (number, stream): &(usize, Stream),
    writer: &mut Writer,
    random: &mut Random,
) -> Result<(), pfs_stream::WriteError> {
    // Often more than a ring holds.
    let (chunks, size) = (random.size(30), random.size(LARGEST));
    for _ in 0..chunks {
        let _pen = world.pen.lock().await;
        let (at, len) = (stream.extent().head, random.size(size));
        world.ledger.appends(*number, at + len);
        writer.append(contents(*number, at, len as usize)).await?;
    }
    Ok(())
}

/// Appends some chunks at a daemon that mounts the stream. No other writer appends meanwhile.
pub(crate) async fn write_through(world: Arc<World>, at: usize, mut random: Random) {
    let Some(client) = world.network.client(at).await else { return };
    let _pen = world.pen.lock().await;
    let opened = {
        let _opening = world.opening.lock().await;
        if let Some((number, _)) = world.ledger.current(&world.network) {
            world.ledger.look(number);
        }
        let options = WriteOptions::default();
        let opened = client.writer(Network::path(at), options).await;
        opened.ok().and_then(|writer| Some((writer, world.ledger.current(&world.network)?)))
    };
    let mut acknowledged = true;
    let Some((mut writer, (number, stream))) = opened else { return settle(&world).await };
    for _ in 0..random.size(5) {
        let (head, len) = (stream.extent().head, random.size(LARGEST.min(writer.max_chunk())));
        world.ledger.appends(number, head + len);
        let appended = async {
            writer.append(contents(number, head, len as usize)).await?;
            writer.flush().await
        };
        acknowledged = appended.await.is_ok();
        assert!(
            !acknowledged || stream.extent().head == head + len,
            "an acknowledged chunk at {head} is not in the stream"
        );
        if !acknowledged {
            break;
        }
    }
    match departure(&mut random).filter(|_| acknowledged) {
        Some(finish) => {
            let _ = writer.finish(finish).await;
        }
        None => drop(writer),
    }
    settle(&world).await;
}

/// Waits until no writer of a mount is left at the owner: until then, it may still append.
async fn settle(world: &World) {
    loop {
        let Some((number, _)) = world.ledger.current(&world.network) else { return };
        if !world.ledger.has_other_writers(number) {
            world.ledger.look(number);
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
