//! Hostile clients: each repeats one harmful action on its own thread or task.

use std::{
    any::Any,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use h2::Reason;
use harness::{Random, noise};
use pfs_proto::{ReadOptions, Request, WriteOptions};
use tokio::{sync::watch::Receiver, time::sleep};

use super::{
    CORRUPTED, KEPT,
    reader::Crowd,
    site::{AUTHORIZED, Site},
};
use crate::shm::{Handed, handed};

/// Connections that each hostile client holds at a time.
const AT_ONCE: usize = 10;

/// How long each connection is held.
const HELD: Duration = Duration::from_millis(300);

type Way = fn(&Site, &mut Random) -> Held;

/// Connection that is held open for a while.
type Held = Box<dyn Any>;

const WAYS: [Way; 8] = [
    connect_and_leave,
    send_garbage,
    send_garbage_over_http,
    send_half_a_frame,
    trickle_a_header,
    announce_a_body,
    show_a_wrong_token,
    scribble_on_a_page,
];

/// All hostile clients. They end when this value is dropped, also when the test fails.
pub(super) struct Hostile {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Hostile {
    pub(super) fn start(crowd: &Arc<Crowd>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let start = |way: Way| {
            let (crowd, over) = (Arc::clone(crowd), Arc::clone(&over));
            thread::spawn(move || {
                let mut random = Random::from_the_system();
                while !over.load(Relaxed) {
                    let held: Vec<_> =
                        (0..AT_ONCE).map(|_| way(&crowd.site, &mut random)).collect();
                    thread::sleep(HELD);
                    drop(held);
                }
            })
        };
        let threads = WAYS.into_iter().map(start).collect();
        Self { over, threads }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(
                ended.is_ok() || thread::panicking(),
                "a hostile client was not served as it should"
            );
        }
    }
}

fn connect_and_leave(site: &Site, random: &mut Random) -> Held {
    if random.one_in(2) { Box::new(site.daemon.wire()) } else { Box::new(site.daemon.http()) }
}

fn garbage(random: &mut Random) -> Vec<u8> {
    noise(random.number(), random.below(20_000) as usize)
}

fn send_garbage(site: &Site, random: &mut Random) -> Held {
    let mut wire = if random.one_in(2) { site.daemon.wire() } else { site.daemon.wire().greeted() };
    wire.send_bytes(&garbage(random));
    Box::new(wire)
}

fn send_garbage_over_http(site: &Site, random: &mut Random) -> Held {
    let mut http = site.daemon.http();
    http.send(&garbage(random));
    Box::new(http)
}

fn send_half_a_frame(site: &Site, random: &mut Random) -> Held {
    let mut wire = site.daemon.wire().greeted();
    wire.send(&Request::OpenWriter(CORRUPTED.parse().unwrap(), WriteOptions::default()));
    wire.send_without_end(&Request::Append(garbage(random).into()), 1);
    Box::new(wire)
}

fn trickle_a_header(site: &Site, random: &mut Random) -> Held {
    let mut http = site.daemon.http();
    for byte in
        &b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-trickle: "[..random.below(50) as usize]
    {
        http.send(&[*byte]);
    }
    Box::new(http)
}

fn announce_a_body(site: &Site, random: &mut Random) -> Held {
    let mut http = site.daemon.http();
    let path = random.of([CORRUPTED, "/v1/stream/corrupt", "/api/v1/files?path=/streamfs/corrupt"]);
    let length = (1 + random.below(16 * 1024 * 1024)).to_string();
    http.request("PUT", path, &[AUTHORIZED, ("content-length", &length)], None);
    http.send(&garbage(random));
    Box::new(http)
}

fn show_a_wrong_token(site: &Site, random: &mut Random) -> Held {
    let mut http = site.daemon.http();
    let token = format!("Bearer {}", random.number());
    http.request("GET", KEPT, &[("authorization", &token)], None);
    Box::new(http)
}

fn scribble_on_a_page(site: &Site, random: &mut Random) -> Held {
    let Handed { wire, page, .. } = handed(&site.daemon, KEPT, ReadOptions::default());
    File::from(page).write_all_at(&noise(random.number(), 4096), 0).expect("a writable page");
    Box::new(wire)
}

/// Resets requests over HTTP/2 as soon as they are sent.
pub(super) async fn flood_with_resets(crowd: Arc<Crowd>, over: Receiver<bool>) {
    while !*over.borrow() {
        let client = crowd.site.http2().await;
        for _ in 0..1000 {
            // The daemon closes a connection that does this.
            let Ok(mut ready) = client.clone().ready().await else { break };
            let request = http::Request::get(crowd.site.daemon.url(KEPT)).body(()).unwrap();
            let Ok((_, mut stream)) = ready.send_request(request, false) else { break };
            stream.send_reset(Reason::CANCEL);
        }
        sleep(HELD).await;
    }
}
