//! One schedule: what happens to a chain of daemons, in an order and at times that a seed decides.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use pfs_proto::ReadOptions;
use pfs_remote::Keep;
use pfs_stream::{Finish, StreamConfig};
use tokio::{
    runtime::{Builder, Handle},
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    ledger::{LARGEST, Ledger, contents},
    network::{AT_OWNER, Direction, Door, Network, Setup},
    random::Random,
    reading::{self, Reading},
    writing,
};

/// Time in which every reader ends once nothing is wrong any more and the stream has ended: a pause
/// and an attempt to connect that has just begun, at each daemon on the way.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Time after a fault in which a link may still be down.
const RECOVERY: Duration = Duration::from_secs(20);

/// Time after which a schedule counts as hung, long before any pause of its steps adds up to it.
const HANG_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The least that a writer may be told to pause at most between two bursts.
const MIN_PACE: Duration = Duration::from_millis(10);

/// The most readers at a time.
const MAX_READERS: usize = 8;

/// What the tasks of a schedule share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) network: Arc<Network>,
    pub(crate) ledger: Ledger,
    pub(crate) max_block_time: Option<Duration>,
    /// Held by those who append, so that head is known before an append.
    pub(crate) pen: Mutex<()>,
    /// Held by those who create or remove the stream, and by those who open it for writing.
    pub(crate) opening: Mutex<()>,
    /// Set at the end: writers and readers no longer pause.
    pub(crate) hurries: AtomicBool,
    /// The positions of the readers that are attached.
    attached: std::sync::Mutex<Vec<Weak<AtomicU64>>>,
    /// By link: what went wrong so far, and how often its connections broke.
    faults: Vec<[AtomicU64; 2]>,
    /// By link: the number of stalls and closed doors now.
    troubles: Vec<AtomicU64>,
    /// When something last went wrong, or came to an end.
    last_fault: std::sync::Mutex<Option<Instant>>,
    began: Instant,
    prints: bool,
}

/// What is known at a moment, for a reader at one of the daemons.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Counts what went wrong on the way to the owner.
    pub(crate) faults: u64,
    /// Counts those faults that broke connections.
    pub(crate) breaks: u64,
    /// Whether nothing is wrong now, nor was shortly before.
    pub(crate) is_calm: bool,
    /// Number of streams that the owner has had, and the one that it has now.
    pub(crate) streams: usize,
    pub(crate) current: Option<usize>,
    /// The highest head of any stream: a daemon may still have a replica of an older one.
    pub(crate) head: u64,
}

impl World {
    pub(crate) fn moment(&self, at: usize) -> Moment {
        let current = self.ledger.current(&self.network).map(|(number, _)| number);
        let sum = |kind: usize| self.faults[..=at].iter().map(|link| link[kind].load(SeqCst)).sum();
        Moment {
            faults: sum(0),
            breaks: sum(1),
            is_calm: self.troubles[..=at].iter().all(|troubles| troubles.load(SeqCst) == 0)
                && self.last_fault.lock().unwrap().is_none_or(|time| time.elapsed() > RECOVERY),
            streams: self.ledger.len(),
            current,
            head: self.ledger.highest_head(),
        }
    }

    /// Notes that a reader is attached, until the returned position is dropped.
    pub(crate) fn attach(&self, start: u64) -> Arc<AtomicU64> {
        let position = Arc::new(AtomicU64::new(start));
        self.attached.lock().unwrap().push(Arc::downgrade(&position));
        position
    }

    fn positions(&self) -> Vec<u64> {
        let attached = self.attached.lock().unwrap();
        attached.iter().filter_map(Weak::upgrade).map(|position| position.load(SeqCst)).collect()
    }

    /// Notes that a trouble of a link begins or ends.
    fn trouble(&self, link: usize, begins: bool) {
        let troubles = &self.troubles[link];
        if begins {
            troubles.fetch_add(1, SeqCst)
        } else {
            troubles.fetch_sub(1, SeqCst)
        };
        *self.last_fault.lock().unwrap() = Some(Instant::now());
    }

    /// Notes a fault of a link.
    fn fault(&self, link: usize, breaks: bool) {
        self.faults[link][0].fetch_add(1, SeqCst);
        *self.last_fault.lock().unwrap() = Some(Instant::now());
        if breaks {
            self.faults[link][1].fetch_add(1, SeqCst);
        }
    }

    /// Prints a line when a schedule is repeated.
    #[allow(clippy::print_stdout, reason = "for the developer who repeats a schedule")]
    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        if self.prints {
            println!("{:10.3} {}", self.began.elapsed().as_secs_f64(), line());
        }
    }
}

/// Runs the schedule of a seed. Panics if a reader is told what it must not be told.
pub(crate) fn run(seed: u64, prints: bool) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        timeout(HANG_TIMEOUT, schedule(Random::new(seed), prints))
            .await
            .expect("the schedule hangs");
    });
}

async fn schedule(mut random: Random, prints: bool) {
    let random = &mut random;
    let max_block_time = random.one_in(4).then(|| millis(random, 2000));
    let keep = match random.below(4) {
        0 => Keep::Always,
        1 => Keep::For(millis(random, 100)),
        _ => Keep::For(millis(random, 30_000)),
    };
    let daemons = random.of([2, 3, 3]);
    let network = Network::new(&vec![Setup { keep, max_block_time }; daemons], random);
    let world = Arc::new(World {
        network,
        ledger: Ledger::default(),
        max_block_time,
        pen: Mutex::new(()),
        opening: Mutex::new(()),
        hurries: AtomicBool::new(false),
        attached: std::sync::Mutex::default(),
        faults: (0..daemons).map(|_| Default::default()).collect(),
        troubles: (0..daemons).map(|_| AtomicU64::new(0)).collect(),
        last_fault: std::sync::Mutex::default(),
        began: Instant::now(),
        prints,
    });
    world.log(|| format!("{daemons} daemons, keep {keep:?}, max_block_time {max_block_time:?}"));
    let mut play = Play {
        world,
        readers: Vec::new(),
        writers: Vec::new(),
        // A link without faults must keep stronger promises.
        has_faults: !random.one_in(4),
        owner_ends: random.one_in(3),
    };
    play.begin(random).await;
    for _ in 0..random.size(60) {
        let pause = millis(random, 3000);
        sleep(pause).await;
        play.step(random).await;
    }
    play.end(random).await;
    play.clean_up().await;
}

/// A duration up to this many milliseconds, short ones as likely as long ones.
fn millis(random: &mut Random, most: u64) -> Duration {
    Duration::from_millis(random.size(most) - 1)
}

/// A schedule that runs.
struct Play {
    world: Arc<World>,
    readers: Vec<JoinHandle<Result<(), String>>>,
    /// Writers, and tasks that end a trouble.
    writers: Vec<JoinHandle<()>>,
    has_faults: bool,
    /// Whether streams end before the end of the schedule.
    owner_ends: bool,
}

impl Play {
    async fn begin(&mut self, random: &mut Random) {
        if !random.one_in(4) {
            self.create(random).await;
        }
        for _ in 0..random.of([1, 1, 2]) {
            let pace = millis(random, 3000) + MIN_PACE;
            let writing = writing::write(Arc::clone(&self.world), random.fork(), pace);
            self.writers.push(tokio::spawn(writing));
        }
        for link in 1..self.world.network.len() {
            self.change_latency(link, random);
        }
    }

    fn change_latency(&self, link: usize, random: &mut Random) {
        for direction in [Direction::Up, Direction::Down] {
            let latency = if random.one_in(3) { Duration::ZERO } else { millis(random, 300) };
            self.world.network.link(link).set_latency(direction, latency);
        }
    }

    async fn step(&mut self, random: &mut Random) {
        self.check().await;
        let daemons = self.world.network.len();
        let link = 1 + random.index(daemons - 1);
        match random.below(24) {
            0..=6 => self.start_reader(random),
            7 if !self.readers.is_empty() => {
                self.world.log(|| "a reader leaves".to_owned());
                self.readers.swap_remove(random.index(self.readers.len())).abort();
            }
            8 => self.change_latency(link, random),
            9 => self.world.network.link(link).set_packet(256 + random.size(4096) as usize),
            10 => self.ask(random.index(daemons), random).await,
            11 | 12 => {
                let at = random.index(daemons);
                self.world.log(|| format!("a writer at daemon {at}"));
                let writing = writing::write_through(Arc::clone(&self.world), at, random.fork());
                self.writers.push(tokio::spawn(writing));
            }
            13 if self.owner_ends => self.end_stream(random).await,
            14 if self.owner_ends || self.world.network.daemon(0).registry().is_empty() => {
                self.create(random).await;
            }
            15.. if self.has_faults => self.fault(link, random).await,
            _ => {}
        }
    }

    /// Something goes wrong.
    async fn fault(&mut self, link: usize, random: &mut Random) {
        let world = &self.world;
        let network = &world.network;
        let direction = random.of([Direction::Up, Direction::Down]);
        match random.below(9) {
            0 | 1 => {
                world.log(|| format!("link {link} breaks"));
                world.fault(link, true);
                network.link(link).cut();
            }
            2 | 3 => {
                let bytes = random.size(8192) - 1;
                world.log(|| format!("link {link} breaks after {bytes} bytes {direction:?}"));
                world.fault(link, true);
                network.link(link).cut_after(direction, bytes);
            }
            4 | 5 => {
                let (time, breaks) = (millis(random, 20_000), random.one_in(2));
                world.log(|| {
                    format!("link {link} stalls {direction:?} for {time:?}, breaks: {breaks}")
                });
                world.fault(link, breaks);
                world.trouble(link, true);
                network.link(link).stall(direction, true);
                let world = Arc::clone(world);
                self.writers.push(tokio::spawn(async move {
                    sleep(time).await;
                    if breaks && !world.hurries.load(SeqCst) {
                        world.network.link(link).cut();
                    }
                    world.network.link(link).stall(direction, false);
                    world.trouble(link, false);
                }));
            }
            6 | 7 => {
                let (door, time) =
                    (random.of([Door::Refusing, Door::Silent]), millis(random, 20_000));
                world.log(|| format!("link {link} is {door:?} for {time:?}"));
                world.fault(link, true);
                world.trouble(link, true);
                network.link(link).set_door(door);
                network.link(link).cut();
                let world = Arc::clone(world);
                self.writers.push(tokio::spawn(async move {
                    sleep(time).await;
                    world.network.link(link).set_door(Door::Open);
                    world.trouble(link, false);
                }));
            }
            _ => {
                let at = if self.owner_ends { random.index(network.len()) } else { link };
                let _opening = world.opening.lock().await;
                world.log(|| format!("daemon {at} restarts"));
                for link in at..network.len().min(at + 2) {
                    world.fault(link, true);
                }
                network.restart(at);
            }
        }
    }

    fn start_reader(&mut self, random: &mut Random) {
        if self.readers.iter().filter(|reader| !reader.is_finished()).count() >= MAX_READERS {
            return;
        }
        let world = Arc::clone(&self.world);
        let head =
            world.ledger.current(&world.network).map_or(0, |(_, stream)| stream.extent().head);
        let at = random.index(world.network.len());
        let options = reading::options(random, head);
        let pause = if random.one_in(2) { Duration::ZERO } else { millis(random, 2000) };
        world.log(|| format!("a reader at daemon {at}: {options:?}, pause {pause:?}"));
        let reading = Reading { world, at, options, pause, random: random.fork() };
        self.readers.push(tokio::spawn(reading.run()));
    }

    /// Another client asks for something, whatever the answer is.
    async fn ask(&self, at: usize, random: &mut Random) {
        let world = Arc::clone(&self.world);
        let what = random.below(3);
        world.log(|| format!("a client asks daemon {at} for {what}"));
        tokio::spawn(async move {
            let Some(client) = world.network.client(at).await else { return };
            let path = Network::path(at);
            match what {
                0 => drop(client.stat(path).await),
                1 => drop(client.list("/").await),
                _ => drop(client.reader(path, ReadOptions::default()).await),
            }
        });
    }

    /// Creates a stream, in place of the one that there is.
    async fn create(&self, random: &mut Random) {
        let world = &self.world;
        let _opening = world.opening.lock().await;
        let ring = LARGEST + random.size(8192);
        let channel = if random.one_in(3) { LARGEST + random.size(8192) } else { ring };
        let config = StreamConfig::default().ring_buffer_size(ring).channel_buffer_size(channel);
        world.log(|| {
            format!("a stream with a ring of {ring} bytes, and {channel} for live readers")
        });
        world.network.daemon(0).registry().replace_with(AT_OWNER, config, |_| {}).unwrap();
        world.ledger.current(&world.network);
    }

    /// Ends the stream, if there is one.
    async fn end_stream(&self, random: &mut Random) {
        let world = &self.world;
        let _opening = world.opening.lock().await;
        let Some((number, stream)) = world.ledger.current(&world.network) else { return };
        match random.below(3) {
            0 => {
                world.log(|| format!("stream {number} is closed"));
                stream.close();
            }
            1 => {
                world.log(|| format!("stream {number} is closed as failed"));
                let _ = stream.close_failed();
            }
            _ => {
                world.log(|| format!("stream {number} is removed"));
                world.network.daemon(0).registry().remove_stream(&stream);
            }
        }
    }

    /// Fails if a reader has failed.
    async fn check(&mut self) {
        let mut running = Vec::new();
        for reader in self.readers.drain(..) {
            if reader.is_finished() {
                reader.await.unwrap().unwrap();
            } else {
                running.push(reader);
            }
        }
        self.readers = running;
    }

    /// Ends all faults and the stream. Every reader must come to an end.
    async fn end(&mut self, random: &mut Random) {
        let world = Arc::clone(&self.world);
        world.log(|| "the end".to_owned());
        world.hurries.store(true, SeqCst);
        (1..world.network.len()).for_each(|link| world.network.link(link).heal());
        for writer in self.writers.drain(..) {
            timeout(END_TIMEOUT, writer).await.expect("a writer hangs").unwrap();
        }
        if random.one_in(4) {
            self.end_stream(random).await;
        }
        if world.ledger.current(&world.network).is_none() {
            // Nothing but the removal tells readers of the end.
            sleep(END_TIMEOUT).await;
            assert!(world.positions().is_empty(), "readers of a removed stream are left");
        }
        let is_open = |world: &World| {
            let current = world.ledger.current(&world.network);
            current.filter(|(_, stream)| !stream.extent().closed)
        };
        if is_open(&world).is_none() {
            self.create(random).await;
        }
        let (number, stream) = is_open(&world).unwrap();
        world.ledger.look(number);
        let mut writer = stream.writer().unwrap();
        let waits = random.one_in(2);
        sleep(if waits { END_TIMEOUT } else { millis(random, 3000) }).await;
        let head = stream.extent().head;
        world.ledger.appends(number, head + 5);
        writer.append(contents(number, head, 5)).await.unwrap();
        if waits {
            // Nothing but the data wakes readers.
            sleep(END_TIMEOUT).await;
            let (head, positions) = (stream.extent().head, world.positions());
            assert!(positions.iter().all(|at| *at == head), "at {positions:?} of {head}");
        }
        writer.finish(Finish::KeepOpen);
        world.ledger.look(number);
        if random.one_in(2) {
            sleep(millis(random, 3000)).await;
        }
        if random.one_in(2) {
            stream.close();
        } else {
            let _ = stream.close_failed();
        }
        let ended = Instant::now();
        for reader in self.readers.drain(..) {
            timeout(END_TIMEOUT, reader).await.expect("a reader hangs").unwrap().unwrap();
        }
        world.log(|| format!("all readers ended {:?} after the stream", ended.elapsed()));
    }

    /// Nothing is left.
    async fn clean_up(self) {
        let Self { world, .. } = self;
        // Longer than any replica is kept after its stream has ended.
        sleep(Duration::from_secs(120)).await;
        for number in 1..world.network.len() {
            let registry = world.network.daemon(number).registry().clone();
            let left: Vec<String> =
                registry.list().iter().map(|stream| format!("{:?}", stream.stat())).collect();
            assert!(
                left.is_empty() && registry.memory() == 0,
                "daemon {number} still has {left:?}"
            );
        }
        for number in 0..world.network.len() {
            // One connection is kept for further requests.
            let most = u64::from(number + 1 < world.network.len());
            let open = world.network.daemon(number).info().connections;
            assert!(open <= most, "{open} connections of daemon {number}");
        }
        world.network.stop();
        drop(world);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "tasks are left");
    }
}
