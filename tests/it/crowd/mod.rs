//! Crowds of readers of every kind over all transports: each costs the daemon bounded memory, and
//! no reader loses bytes without a report.
//!
//! The readers are connections of this process. The contents depend only on the offset, so each
//! reader checks every byte and every gap. `PFS_TEST_READERS` and `PFS_TEST_SECONDS` make the crowd
//! larger and the run longer: `scripts/soak limits` and `scripts/soak crowd`.

#![allow(clippy::print_stderr, reason = "the stats are what a run is for")]

mod contents;
mod hostile;
mod kind;
mod reader;
mod site;
mod web;
mod writer;

use std::{
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use harness::{Random, deadline, eventually, own, resident, shared, sockets_and_memory, variable};
use pfs_client::{Client, Finish, SlowPolicy, WriteOptions};
use pollster::FutureExt as _;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    hostile::Hostile,
    kind::{Kind, Pace},
    reader::{Crowd, Reader, Shared},
    site::{MAX_MEMORY, RING, Site},
};

/// Stream that exists for the whole run.
const KEPT: &str = "/streamfs/kept";
/// Stream that is removed and created again.
const REMOVED: &str = "/streamfs/removed";
/// Stream that is closed and replaced.
const REPLACED: &str = "/streamfs/replaced";
/// Streams that are replaced by a new stream again and again.
const MOVING: [&str; 2] = [REMOVED, REPLACED];
/// Stream of hostile writers.
const CORRUPTED: &str = "/streamfs/corrupt";

/// Streams with readers, and the slow policy of these readers. Writers wait for `block` readers up
/// to `limits.max_block_time`.
const STREAMS: [(&str, SlowPolicy); 5] = [
    (KEPT, SlowPolicy::Drop),
    ("/streamfs/block", SlowPolicy::Block),
    ("/streamfs/disconnect", SlowPolicy::Disconnect),
    (REMOVED, SlowPolicy::Drop),
    (REPLACED, SlowPolicy::Drop),
];

const KIB: u64 = 1024;
const MIB: u64 = 1024 * 1024;

/// Maximum memory that one reader costs the daemon.
const EACH: u64 = 128 * KIB;

/// Large buffers that all readers share.
const LARGE_BUFFERS: u64 = 33 * MIB;

/// Memory that a daemon may keep for later use.
const LEFT: u64 = 16 * MIB;

/// Heap memory that ended connections may leave behind: the daemon returns memory to the system
/// after every 256 ended connections, so the memory of the last 255 may remain.
const UNTRIMMED: u64 = 256 * EACH;

/// Chunk size of the history, in bytes. It is so small that few readers start at the same chunk and
/// share the daemon's copy.
const CHUNK: usize = 997;

/// Number of readers that share one HTTP/2 connection.
const GROUP: usize = 50;

/// Number of readers that connect at the same time.
const CONNECTING: usize = 64;

mod limits {
    #[test]
    fn readers_of_all_kinds_and_hostile_clients_leave_memory_bounded_and_lose_nothing_unreported() {
        super::limits(false);
    }

    #[test]
    fn readers_of_all_kinds_lose_nothing_unreported_over_tls() {
        super::limits(true);
    }
}

mod stalled {
    #[test]
    fn readers_that_stall_cost_128_kib_each_at_most() {
        super::crowd(false);
    }

    #[test]
    fn readers_that_stall_cost_128_kib_each_at_most_over_tls() {
        super::crowd(true);
    }
}

fn crowd(tls: bool) {
    let readers = variable("PFS_TEST_READERS").unwrap_or(350) as usize;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut run = Run::start(tls, readers + Kind::ALL.len(), 4 * RING).await;
        let before = resident(run.pid());
        for kind in Kind::ALL {
            run.attach(kind, Pace::Stalled, readers.div_ceil(Kind::ALL.len())).await;
        }
        let each = resident(run.pid()).saturating_sub(before) / run.attached as u64;
        eprintln!("{} readers that stall: {} KiB each", run.attached, each / KIB);
        assert!(each <= EACH, "{each} bytes for each reader that stalls");
        run.readers.shutdown().await;
        run.ends();
    });
}

fn limits(tls: bool) {
    let readers = variable("PFS_TEST_READERS").unwrap_or(35) as usize;
    let time = Duration::from_secs(variable("PFS_TEST_SECONDS").unwrap_or(3));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut run = Run::start(tls, Pace::ALL.len() * readers, RING).await;
        let (writing, no_more_writing) = watch::channel(false);
        let mut others = JoinSet::new();
        for pace in Pace::ALL {
            for kind in Kind::ALL {
                run.attach(kind, pace, readers.div_ceil(Kind::ALL.len())).await;
            }
        }
        for (stream, _) in STREAMS {
            others.spawn(writer::run(Arc::clone(&run.crowd), stream, no_more_writing.clone()));
        }
        others.spawn(hostile::flood_with_resets(Arc::clone(&run.crowd), no_more_writing.clone()));
        let hostile = Hostile::start(&run.crowd);

        let bound =
            run.base + run.attached as u64 * EACH + LARGE_BUFFERS + 2 * MAX_MEMORY / 8 + LEFT;
        let mut most = 0;
        let begin = Instant::now();
        while begin.elapsed() < time {
            sleep(Duration::from_millis(500)).await;
            most = most.max(own(run.pid()));
            assert!(most < bound, "{most} bytes of memory; {bound} are allowed");
            run.go_on();
            assert!(others.try_join_next().is_none(), "writers go on");
        }
        writing.send(true).unwrap();
        others.join_all().await;
        drop(hostile);
        run.over.send(true).unwrap();
        let ended = std::mem::take(&mut run.readers).join_all();
        timeout(deadline(), ended).await.expect("all readers read to the end");
        eprintln!(
            "{} readers, {time:?}: {} MiB of memory at most, {} are allowed; {:?}",
            run.attached,
            most / MIB,
            bound / MIB,
            run.crowd.totals
        );
        run.ends();
    });
}

/// Daemon, its readers, and its memory and descriptors before they came.
struct Run {
    crowd: Arc<Crowd>,
    control: Client,
    readers: JoinSet<()>,
    attached: usize,
    over: watch::Sender<bool>,
    ring: u64,
    base: u64,
    files: usize,
}

impl Run {
    /// Starts a daemon with full ring buffers, so that readers stall at once.
    async fn start(tls: bool, readers: usize, ring: u64) -> Self {
        let site = Site::start(tls, readers, ring);
        let control = site.client(Kind::Unix).await;
        control.info().await.unwrap();
        let files = sockets_and_memory(site.daemon.pid());
        for (stream, _) in STREAMS.into_iter().chain([(CORRUPTED, SlowPolicy::Drop)]) {
            let mut writer = control.writer(stream, WriteOptions::default()).await.unwrap();
            for offset in (0..2 * ring).step_by(CHUNK) {
                writer.push(contents::contents(offset, CHUNK)).await.unwrap();
            }
            writer.finish(Finish::KeepOpen).await.unwrap();
        }
        control.info().await.unwrap();
        let pid = site.daemon.pid();
        let base = own(pid);
        let crowd = Arc::new(Crowd {
            site,
            totals: Arc::default(),
            attached: 0.into(),
            ends: Mutex::default(),
        });
        Self {
            crowd,
            control,
            readers: JoinSet::new(),
            attached: 0,
            over: watch::Sender::new(false),
            ring,
            base,
            files,
        }
    }

    fn pid(&self) -> u32 {
        self.crowd.site.daemon.pid()
    }

    /// Panics if a reader has panicked.
    fn go_on(&mut self) {
        if let Some(ended) = self.readers.try_join_next() {
            panic!("a reader has ended: {ended:?}");
        }
    }

    /// Attaches readers and prints their cost.
    async fn attach(&mut self, kind: Kind, pace: Pace, count: usize) {
        let pid = self.pid();
        let stats = || [own(pid), shared(pid), tcp_memory()];
        let before = stats();
        let connecting = Arc::new(Semaphore::new(CONNECTING));
        let mut random = Random::from_the_system();
        let mut group = Arc::new(Shared::Nothing);
        for number in 0..count {
            if number % GROUP == 0 {
                group = Arc::new(match kind {
                    Kind::Shm | Kind::Unix | Kind::Frames => {
                        Shared::Library(Box::new(self.crowd.site.client(kind).await))
                    }
                    Kind::Multiplexed => Shared::Http2(self.crowd.site.http2().await),
                    Kind::Body | Kind::Events | Kind::Pages => Shared::Nothing,
                });
            }
            let (stream, policy) = STREAMS[number % STREAMS.len()];
            let permit = Arc::clone(&connecting).acquire_owned().await.unwrap();
            let reader = Reader {
                crowd: Arc::clone(&self.crowd),
                shared: Arc::clone(&group),
                kind,
                pace,
                policy,
                stream,
                tail: self.ring - random.below(self.ring / 4),
                over: self.over.subscribe(),
                connecting: Some(permit),
            };
            self.readers.spawn(reader.run());
        }
        self.attached += count;
        let begin = Instant::now();
        while self.crowd.attached.load(Relaxed) < self.attached {
            self.go_on();
            assert!(begin.elapsed() < deadline(), "{kind:?} readers are not attached");
            sleep(Duration::from_millis(10)).await;
        }
        // Wait until the daemon has filled its buffers for them.
        let mut last = stats();
        loop {
            sleep(Duration::from_millis(300)).await;
            let now = stats();
            if now.iter().zip(&last).all(|(now, last)| now.abs_diff(*last) < 256 * KIB) {
                break;
            }
            last = now;
        }
        let each =
            |i: usize| (stats()[i].saturating_sub(before[i]) / count as u64) as f64 / KIB as f64;
        eprintln!(
            "{count:5} {kind:?} {pace:?}: {:.1} KiB of the daemon's own memory each, {:.1} shared, {:.1} of the kernel for TCP",
            each(0),
            each(1),
            each(2)
        );
    }

    /// Checks that all readers have left and that everything they used was released.
    fn ends(self) {
        let Self { crowd, control, base, files, .. } = self;
        let pid = crowd.site.daemon.pid();
        let info = || control.info().block_on().unwrap();
        eventually("their connections are gone", || info().connections == 1);
        eventually("their memory has gone back", || own(pid) < base + UNTRIMMED);
        for (stream, _) in STREAMS.into_iter().chain([(CORRUPTED, SlowPolicy::Drop)]) {
            control.remove(stream).block_on().unwrap();
        }
        eventually("the memory of the streams has gone back", || info().memory == 0);
        eventually("their descriptors are closed", || sockets_and_memory(pid) <= files);
        assert!(!crowd.site.daemon.log().contains("panicked"), "{}", crowd.site.daemon.log());
    }
}

/// Returns the kernel memory for TCP buffers of all processes.
fn tcp_memory() -> u64 {
    let stats = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let pages = stats
        .lines()
        .find_map(|line| line.strip_prefix("TCP:")?.split_once(" mem ")?.1.parse().ok());
    pages.unwrap_or(0) * 4 * KIB
}
