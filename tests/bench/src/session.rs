//! One measurement with a fresh server, its readers and its writer, from start to end.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use pfs_measure::{clock, latency::Latencies};
use tempfile::TempDir;

use crate::{
    board::Board,
    child::{Running, role},
    job::{Job, Load, ReaderReport, WRITER, WriterReport},
    peers::{
        Address, Peer,
        server::{Server, Start, Tools},
    },
};

/// Time limit for processes to start, and to end after their writing time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Running server and the processes that use it. Dropping a `Session` kills all of them.
pub struct Session {
    // Declared first, so that no reader sees the server end.
    readers: Vec<Running>,
    writers: Vec<Running>,
    /// The peer's server.
    pub server: Server,
    /// Board of all processes.
    pub board: Board,
    /// Load of the measurement.
    pub load: Load,
    peer: Peer,
    board_path: PathBuf,
    // Declared last, so that the folder is removed after its last use.
    dir: TempDir,
}

/// Result of one measurement.
#[derive(Debug)]
pub struct Outcome {
    /// Time from the first append until the last reader had the last chunk, in seconds.
    pub seconds: f64,
    /// Chunks written by all writers.
    pub written: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes received by all readers together.
    pub delivered_bytes: u64,
    /// Chunks that every reader received: the minimum over all readers.
    pub reached_all: u64,
    /// Chunks lost by all readers together.
    pub lost: u64,
    /// Chunks that were damaged, repeated or out of order.
    pub corrupt: u64,
    /// Processor time of the server, in seconds.
    pub server_cpu: f64,
    /// Processor time of each process of the server, in seconds.
    pub server_cpus: Vec<f64>,
    /// Bytes of the server's HTTP responses, if the server is pfs with HTTP.
    pub sent: Option<u64>,
    /// Processor time of all readers, in seconds.
    pub readers_cpu: f64,
    /// Processor time of all writers, in seconds.
    pub writer_cpu: f64,
    /// Peak memory of the server, in bytes.
    pub peak: u64,
    /// Latency from append to arrival, in nanoseconds, if a rate was set.
    pub latencies: Latencies,
    /// Reports of the readers.
    pub readers: Vec<ReaderReport>,
}

impl Outcome {
    /// Returns the total delivered MB per second.
    pub fn delivered_rate(&self) -> f64 {
        self.delivered_bytes as f64 / self.seconds / 1e6
    }

    /// Returns the chunks per second that reached every reader.
    pub fn record_rate(&self) -> f64 {
        self.reached_all as f64 / self.seconds
    }
}

/// Creates a folder in memory, if the machine has a memory file system.
pub fn memory_dir() -> anyhow::Result<TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("pfs-bench-");
        builder
    };
    let dir = builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir());
    dir.context("cannot create a temporary folder")
}

impl Session {
    /// Starts a server.
    pub fn start(tools: &Tools, peer: Peer, load: &Load) -> anyhow::Result<Self> {
        let dir = memory_dir()?;
        let (board, board_path) = Board::create(dir.path(), load.readers)?;
        let start = Start { peer, tools, dir: dir.path(), load };
        let server = peer.serve(&start).context("cannot start the server")?;
        let load = load.clone();
        Ok(Self {
            readers: Vec::new(),
            writers: Vec::new(),
            server,
            board,
            load,
            peer,
            board_path,
            dir,
        })
    }

    /// Folder of this session.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Returns the job of a process in this session.
    pub fn job(&self, reader: usize) -> Job {
        Job {
            peer: self.peer,
            address: self.server.address.clone(),
            board: self.board_path.clone(),
            load: self.load.clone(),
            reader,
            writer: WRITER,
            history: false,
            threads: 1,
        }
    }

    /// Starts a process in this role.
    pub fn spawn_reader(&mut self, name: &str, job: &Job) -> anyhow::Result<()> {
        let mut command = role(name, job)?;
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        if self.server.address == Address::Stdin && !self.server.taps.is_empty() {
            command.stdin(self.server.taps.remove(0));
        }
        self.readers.push(Running::spawn(&mut command)?);
        Ok(())
    }

    /// Returns the reader that was started first.
    pub fn first_reader(&mut self) -> anyhow::Result<&mut Running> {
        self.readers.first_mut().context("there is no reader")
    }

    /// Starts the writer or writers and waits until they are connected. They wait for
    /// [`Board::go`].
    fn start_writers(&mut self) -> anyhow::Result<()> {
        let writers = self.peer.writers(&self.load);
        for writer in 0..writers {
            let number = if self.load.writers > 1 { u16::try_from(writer)? } else { WRITER };
            let mut command = role("writer", &Job { writer: number, ..self.job(0) })?;
            command.stdout(Stdio::piped()).stdin(Stdio::null());
            if let Some(feed) = self.server.feeds.get(writer) {
                command.stdin(feed.try_clone()?);
            }
            self.writers.push(Running::spawn(&mut command)?);
        }
        self.wait("the writer is connected", PATIENCE, |board| {
            board.writers_ready() == writers as u64
        })
    }

    /// Waits until all writers have sent everything.
    fn await_written(&mut self) -> anyhow::Result<()> {
        let writers = self.writers.len() as u64;
        self.wait("the writer is done", self.patience(), |board| board.writers_done() == writers)
    }

    /// Waits until a condition holds. Fails if a process has failed.
    pub fn wait(
        &mut self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Board) -> bool,
    ) -> anyhow::Result<()> {
        let patience = clock::after(patience);
        while !holds(&self.board) {
            self.writers
                .iter_mut()
                .chain(&mut self.readers)
                .try_for_each(Running::check_failure)?;
            ensure!(clock::now() < patience, "gave up waiting until {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until this many readers are attached.
    pub fn await_attached(&mut self, readers: usize) -> anyhow::Result<()> {
        self.wait("all readers are attached", PATIENCE, |board| board.attached() == readers)?;
        ensure!(self.board.failed() == 0, "a reader could not attach{}", self.failures());
        self.server.check()
    }

    fn failures(&mut self) -> String {
        // Failed readers get time to print the reason and end; the others are not waited for.
        std::thread::sleep(Duration::from_millis(100));
        let ended =
            self.readers.iter_mut().filter_map(|reader| reader.has_ended().then_some(reader));
        let reports = ended.filter_map(|reader| reader.report::<ReaderReport>().ok());
        reports
            .filter_map(|report| report.failure)
            .map(|failure| format!(": {failure}"))
            .next()
            .unwrap_or_default()
    }

    /// Runs the writers until everything is written. With `load.stay`, the writer stays attached.
    pub fn write(&mut self) -> anyhow::Result<()> {
        self.start_writers()?;
        self.board.go();
        self.await_written()
    }

    fn patience(&self) -> Duration {
        PATIENCE + Duration::from_secs_f64(self.load.seconds)
    }

    /// Waits until all readers have ended.
    pub fn await_done(&mut self) -> anyhow::Result<()> {
        let readers = self.load.readers;
        self.wait("all readers are done", self.patience(), |board| board.done() == readers)
    }

    /// Returns the reports of the readers, which have all ended.
    pub fn reports(&mut self) -> anyhow::Result<Vec<ReaderReport>> {
        self.readers.iter_mut().map(Running::report).collect()
    }
}

/// Measures a peer under a load. All readers are attached before the first byte is written.
pub fn measure(tools: &Tools, peer: Peer, load: &Load) -> anyhow::Result<Outcome> {
    let mut session = Session::start(tools, peer, load)?;
    if peer.writer_is_first() {
        session.start_writers()?;
    }
    for reader in 0..load.readers {
        let job = session.job(reader);
        session.spawn_reader(peer.reader_role(), &job)?;
    }
    session.await_attached(load.readers)?;
    if peer.has_writer() && !peer.writer_is_first() {
        session.start_writers()?;
    }

    let sent = session.server.sent()?;
    let cpus = session.server.cpus();
    if !peer.has_writer() {
        session.board.begin();
    }
    session.board.go();
    session.await_done()?;
    let cpus = session.server.cpus().into_iter().zip(cpus);
    let server_cpus: Vec<f64> =
        cpus.map(|(now, before)| now.saturating_sub(before).as_secs_f64()).collect();
    let (_, peak) = session.server.memory();

    session.await_written()?;
    let sent = session.server.sent()?.zip(sent).map(|(now, before)| now.saturating_sub(before));
    let mut writers =
        session.writers.iter_mut().map(Running::report).collect::<anyhow::Result<Vec<_>>>()?;
    if !peer.has_writer() {
        writers.push(WriterReport { written: load.limit.unwrap_or_default(), cpu: 0.0 });
    }
    let written = writers.iter().map(|writer| writer.written).sum();
    let readers = session.reports()?;
    if let Some(failure) = readers.iter().find_map(|reader| reader.failure.as_ref()) {
        anyhow::bail!("a reader failed: {failure}");
    }
    let ended = readers.iter().map(|reader| reader.ended).max().unwrap_or(0);
    let received: u64 = readers.iter().map(|reader| reader.received).sum();
    let latencies = Latencies::from_counts(readers.iter().flat_map(|reader| &reader.latencies));
    Ok(Outcome {
        seconds: ended.saturating_sub(session.board.began()).max(1) as f64 / 1e9,
        written,
        written_bytes: written * load.chunk as u64,
        delivered_bytes: received * load.chunk as u64,
        reached_all: readers.iter().map(|reader| reader.received).min().unwrap_or(0),
        lost: readers.iter().map(|reader| reader.lost).sum(),
        corrupt: readers.iter().map(|reader| reader.corrupt).sum(),
        server_cpu: server_cpus.iter().sum(),
        server_cpus,
        sent,
        readers_cpu: readers.iter().map(|reader| reader.cpu).sum(),
        writer_cpu: writers.iter().map(|writer| writer.cpu).sum(),
        peak,
        latencies,
        readers,
    })
}
