//! Tests of stall detectors and throttles whose futures are dropped at every await, with a paused
//! clock that advances only while they wait.

use std::{future::Future, num::NonZeroU64, time::Duration};

use tokio::time::{Instant, advance, sleep};

use super::{
    cancel::{at_once, chunks, pairs, was_given_up, write},
    *,
};

const TICK: Duration = Duration::from_millis(1);

/// Polls a future once; if it is not ready, drops it and advances the clock by a tick.
async fn once<T>(work: impl Future<Output = T>) -> Option<T> {
    let polled = at_once(work).await;
    if polled.is_none() {
        advance(TICK).await;
    }
    polled
}

/// Reads up to the end; returns all chunks, and the number of stalls.
async fn all(mut reader: impl StreamReader) -> (Vec<bytes::Bytes>, usize) {
    let (mut got, mut stalls) = (Vec::new(), 0);
    loop {
        match once(reader.next()).await {
            None => {}
            Some(Ok(Event::Chunk(chunk))) => got.push(chunk),
            Some(Ok(Event::End { .. })) => return (got, stalls),
            Some(Err(ReadError::Stalled { .. })) => stalls += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_detector_reports_every_stall_once_and_loses_nothing() {
    for (_stream, mut writer, reader) in pairs() {
        let reader = reader.stalls_after(Duration::from_millis(100));
        let writing = async {
            for n in 0..20_u8 {
                let pause = [10, 150, 250, 350][usize::from(n % 4)];
                sleep(Duration::from_millis(pause)).await;
                StreamWriter::append(&mut writer, &[n; 3000]).await.unwrap();
            }
            writer.finish(Finish::Close);
        };
        let ((), (got, stalls)) = tokio::join!(writing, all(reader));
        assert_eq!(
            got.iter().map(|chunk| chunk[0]).collect::<Vec<_>>(),
            (0..20).collect::<Vec<u8>>()
        );
        assert_eq!(stalls, 5 * (1 + 2 + 3), "each pause counts its whole 100 ms");
        assert!(was_given_up());
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_reader_keeps_to_its_rate_and_loses_nothing() {
    for (stream, writer, reader) in pairs() {
        let (begin, bytes) = (Instant::now(), chunks().concat().len() as u64);
        let reader = reader.throttled(Rate::Bytes(NonZeroU64::new(100_000).unwrap()));
        // So fast that the writer has to wait for the reader.
        let writer = writer.throttled(Rate::Chunks(NonZeroU64::new(1000).unwrap()));
        let ((), (got, _)) = tokio::join!(write(writer, stream), all(reader));
        assert!(got == chunks());
        // The end may or may not wait for its turn as a chunk would: both are right.
        let last = chunks().last().unwrap().len() as u64;
        let least = Duration::from_micros((bytes - last) * 10);
        let most = Duration::from_micros(bytes * 10) + 3 * TICK * chunks().len() as u32;
        let took = begin.elapsed();
        assert!(took >= least && took <= most, "{took:?}, not {least:?} to {most:?}");
        assert!(was_given_up());
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_writer_keeps_to_its_rate_and_writes_nothing_twice() {
    for (stream, writer, mut reader) in pairs() {
        let begin = Instant::now();
        let mut writer = writer.throttled(Rate::Chunks(NonZeroU64::new(10).unwrap()));
        for n in 1..=5_u64 {
            while stream.stat().chunks < n {
                if let Some(appended) = once(StreamWriter::append(&mut writer, b"tick")).await {
                    appended.unwrap();
                }
            }
        }
        let took = begin.elapsed();
        assert!(
            (400..=410).contains(&took.as_millis()),
            "{took:?}: the fifth chunk arrives after four tenths"
        );
        assert!(was_given_up());
        writer.finish(Finish::Close).await.unwrap();
        let got: Vec<_> = std::iter::from_fn(|| reader.try_next().unwrap()).take(6).collect();
        assert_eq!(got[..5], [(); 5].map(|()| Event::Chunk("tick".into())));
        assert_eq!(got[5], Event::End { reason: End::Closed, offset: 20 });
    }
}
