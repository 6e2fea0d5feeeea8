//! Cost of a thousand idle readers, in a process that does nothing else.

use std::{
    io::{self, Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use harness::{Daemon, Pfs, eventually, eventually_rest, raise_file_limit};
use pfs_client::{Client, Endpoint, Event, HttpEndpoint, ReadOptions, StreamReader, blocking};
use pfs_stream::{Finish, Stream, StreamConfig};

use super::{block_on, path};

/// During this time no process may run, except that shm readers check their ring buffer.
const REST: Duration = Duration::from_secs(2);

const SO_FAR: &[u8] = b"so far";
const REST_OF_IT: &[u8] = b", and on";

/// Environment variable that marks the process with the readers and tells it where the stream is.
const WHERE: &str = "IDLE_READERS_OF";

/// Counts the readers that have read everything so far, and reports when all have.
struct Crew {
    count: usize,
    waiting: AtomicUsize,
}

impl Crew {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { count, waiting: AtomicUsize::new(0) })
    }

    fn one_waits(&self) {
        if self.waiting.fetch_add(1, SeqCst) + 1 == self.count {
            // `println` would be captured as output of the test.
            io::stdout().write_all(b"all wait").unwrap();
            io::stdout().flush().unwrap();
        }
    }

    /// Reads to the end.
    async fn reads(self: Arc<Self>, mut reader: impl StreamReader) {
        let mut got = Vec::new();
        loop {
            match reader.next().await {
                Ok(Event::Chunk(chunk)) => {
                    got.extend_from_slice(&chunk);
                    if got == SO_FAR {
                        self.one_waits();
                    }
                }
                Ok(Event::End { .. }) => break,
                Ok(Event::Attached { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, [SO_FAR, REST_OF_IT].concat());
    }
}

/// Runs the readers as tasks of one thread.
async fn tasks<R: StreamReader + 'static>(readers: Vec<R>) {
    let crew = Crew::new(readers.len());
    let tasks: Vec<_> =
        readers.into_iter().map(|reader| tokio::spawn(Arc::clone(&crew).reads(reader))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn readers(client: Client, count: usize) -> Vec<pfs_client::Reader> {
    let mut readers = Vec::new();
    for _ in 0..count {
        readers.push(client.reader(&path(), ReadOptions::default()).await.unwrap());
    }
    readers
}

fn endpoint(place: &str) -> Endpoint {
    if place.starts_with("http") {
        Endpoint::Http(HttpEndpoint::new(place).unwrap())
    } else {
        Endpoint::Unix(place.into())
    }
}

/// Starts this test again in another process, which has the readers and gets the address of the
/// daemon as `place`. Checks that neither process runs while there is nothing to read, except that
/// each of the `sleepers`, which use shm, wakes once a second. Then checks that all readers still
/// get data.
fn rest_together(
    test: &str,
    daemon: Option<&Daemon>,
    place: impl AsRef<std::ffi::OsStr>,
    sleepers: u64,
) {
    if let Some(daemon) = daemon {
        daemon.append("/streamfs/library", SO_FAR);
    }
    let test = format!("library::idle::{test}");
    let this = std::env::current_exe().unwrap();
    let process = Pfs::new(this).args(["--exact", &test]).env(WHERE, place);
    let mut process = process.stdin_pipe().spawn();
    eventually("all readers have read what there is", || {
        assert!(process.runs(), "{}", String::from_utf8_lossy(&process.stdout()));
        process.stdout().ends_with(b"all wait")
    });
    let processes: Vec<_> =
        daemon.iter().map(|daemon| (daemon.pid(), 0)).chain([(process.pid(), sleepers)]).collect();
    eventually_rest(&processes, REST);
    match daemon {
        Some(daemon) => {
            daemon.pfs(["write", "--close", "/streamfs/library"]).stdin(REST_OF_IT).run().exits(0);
        }
        None => process.send(REST_OF_IT),
    }
    process.finish().exits(0);
}

#[test]
fn a_thousand_idle_readers_of_a_stream_of_their_own_process_use_no_processor() {
    if std::env::var_os(WHERE).is_none() {
        let test = "a_thousand_idle_readers_of_a_stream_of_their_own_process_use_no_processor";
        return rest_together(test, None, "here", 0);
    }
    let stream = Stream::local("own", StreamConfig::default()).unwrap();
    let mut writer = stream.writer().unwrap();
    writer.write_all(SO_FAR).unwrap();
    thread::spawn(move || {
        let mut rest = [0; REST_OF_IT.len()];
        io::stdin().read_exact(&mut rest).unwrap();
        writer.write_all(&rest).unwrap();
        writer.finish(Finish::Close);
    });
    let reader = |_| stream.reader(ReadOptions::default()).unwrap();
    block_on(tasks((0..1000).map(reader).collect()));
}

#[test]
fn a_thousand_idle_readers_that_share_memory_wake_once_a_second_at_most_and_the_daemon_does_not() {
    let Ok(place) = std::env::var(WHERE) else {
        let test = "a_thousand_idle_readers_that_share_memory_wake_once_a_second_at_most_and_the_daemon_does_not";
        let daemon = Daemon::start();
        return rest_together(test, Some(&daemon), daemon.socket(), 1000);
    };
    raise_file_limit();
    block_on(async {
        let client = Client::connect(endpoint(&place)).await.unwrap();
        let readers = readers(client, 1000).await;
        assert!(readers.iter().all(pfs_client::Reader::is_shm));
        tasks(readers).await;
    });
}

#[test]
fn a_thousand_idle_readers_of_a_socket_use_no_processor_and_neither_does_the_daemon() {
    let Ok(place) = std::env::var(WHERE) else {
        let test =
            "a_thousand_idle_readers_of_a_socket_use_no_processor_and_neither_does_the_daemon";
        let daemon = Daemon::start();
        return rest_together(test, Some(&daemon), daemon.socket(), 0);
    };
    raise_file_limit();
    block_on(async {
        let client = Client::connect(endpoint(&place)).await.unwrap();
        tasks(readers(client.with_shm(false), 1000).await).await;
    });
}

#[test]
fn a_thousand_idle_readers_over_http_use_no_processor_and_neither_does_the_daemon() {
    let Ok(place) = std::env::var(WHERE) else {
        let test = "a_thousand_idle_readers_over_http_use_no_processor_and_neither_does_the_daemon";
        let daemon = Daemon::with_http();
        return rest_together(test, Some(&daemon), daemon.url(""), 0);
    };
    raise_file_limit();
    block_on(async {
        let client = Client::connect(endpoint(&place)).await.unwrap();
        tasks(readers(client, 1000).await).await;
    });
}

/// Fewer readers: each has a runtime and a thread that watches its connection.
#[test]
fn a_hundred_idle_threads_that_read_wake_once_a_second_at_most_and_the_daemon_does_not() {
    let Ok(place) = std::env::var(WHERE) else {
        let test =
            "a_hundred_idle_threads_that_read_wake_once_a_second_at_most_and_the_daemon_does_not";
        let daemon = Daemon::start();
        return rest_together(test, Some(&daemon), daemon.socket(), 100);
    };
    raise_file_limit();
    let crew = Crew::new(100);
    let client = blocking::Client::new(endpoint(&place));
    let readers = [(); 100].map(|()| client.reader(path(), ReadOptions::default()).unwrap());
    let threads = readers.map(|mut reader| {
        let crew = Arc::clone(&crew);
        thread::spawn(move || {
            let mut got = Vec::new();
            loop {
                match reader.next().unwrap() {
                    Event::Chunk(chunk) => got.extend_from_slice(&chunk),
                    Event::End { .. } => break,
                    _ => continue,
                }
                if got == SO_FAR {
                    crew.one_waits();
                }
            }
            assert_eq!(got, [SO_FAR, REST_OF_IT].concat());
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
}
