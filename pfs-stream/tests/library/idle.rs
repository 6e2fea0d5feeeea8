//! Tests that idle readers and watchers cause no work.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use super::*;

/// A reader that counts its polls.
struct Asked(Reader, Arc<AtomicUsize>);

impl StreamReader for Asked {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ReadError>> {
        self.1.fetch_add(1, SeqCst);
        self.0.poll_next(cx)
    }

    fn position(&self) -> u64 {
        self.0.position()
    }

    fn lost_bytes(&self) -> u64 {
        self.0.lost_bytes()
    }

    fn lost_chunks(&self) -> u64 {
        self.0.lost_chunks()
    }
}

#[tokio::test]
async fn a_thousand_idle_readers_are_not_polled_until_a_chunk_wakes_each_once() {
    const READERS: usize = 1000;
    for stream in both(1 << 16) {
        let (asked, got) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..READERS {
            let mut bytes = Asked(reader(&stream), Arc::clone(&asked)).into_byte_stream();
            let got = Arc::clone(&got);
            tokio::spawn(async move {
                while let Some(chunk) = bytes.next().await {
                    got.fetch_add(chunk.unwrap().len(), SeqCst);
                }
            });
        }
        // Yield many times: on this single thread, several dozen other tasks can run before this
        // one is polled again.
        let settle = || async {
            for _ in 0..READERS {
                tokio::task::yield_now().await;
            }
            asked.load(SeqCst)
        };
        assert_eq!(settle().await, READERS, "each reader was polled once, and sleeps");
        let mut writer = stream.writer().unwrap();
        StreamWriter::append(&mut writer, b"x").await.unwrap();
        assert_eq!(
            settle().await,
            3 * READERS,
            "one poll gets the chunk, and one finds no further chunk"
        );
        assert_eq!(got.load(SeqCst), READERS);
        writer.finish(Finish::Close);
        assert_eq!((settle().await, stream.readers()), (4 * READERS, 0));
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_waiter_is_woken_only_by_the_event_that_it_waits_for() {
    for stream in both(8192) {
        let (woken, mut reader, mut events) =
            (Arc::<Woken>::default(), blocking(&stream), stream.events());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let count = || woken.0.load(SeqCst);
        let mut writer = stream.writer().unwrap();
        assert!(
            reader.poll_next(&mut context).is_pending()
                && events.poll_next(&mut context).is_pending()
        );
        let other = stream.writer().unwrap();
        other.finish(Finish::KeepOpen);
        stream.stat();
        assert_eq!(count(), 0, "another writer that joins and leaves wakes no one");
        writer.try_append(&[0; 8192]).unwrap();
        assert_eq!(count(), 1, "a chunk wakes only the reader");
        let mut append = pin!(StreamWriter::append(&mut writer, b"x"));
        assert!(append.as_mut().poll(&mut context).is_pending());
        drop(super::reader(&stream));
        assert!(count() <= 3, "at most the watcher and the writer are woken");
        assert!(append.as_mut().poll(&mut context).is_pending());
        let before = count();
        assert!(matches!(reader.poll_next(&mut context), Poll::Ready(Ok(Event::Chunk(_)))));
        assert!(count() > before, "room wakes the writer");
        assert!(append.as_mut().poll(&mut context).is_ready());
    }
}
