//! `pfs write`: appends standard input, files, or the output of a command.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
};

use anyhow::Context as _;
use pfs_client::{
    Client, CreateOptions, Finish, IfExists, ProxyBroke, PutOptions, RequestError, WriteError,
    Writer,
};
use pfs_proto::{ErrorCode, StreamPath, WriteOptions};

use super::{Context, patiently};
use crate::{
    cli::WriteArgs,
    exit_code::{ExitCode, Failure},
    header::Header,
    lines::LineCutter,
    pipe,
    place::Place,
    printer::Printer,
    producer::{End, Producer, Started},
    progress::{Counters, Progress, Role, Style},
    readable::Readable,
    size::size,
    stdin::{self, Block, Input, InputError, Source},
    terminal,
};

/// Size of the reads from which one chunk is collected, in bytes.
const BLOCK: usize = 64 * 1024;

/// Appends the input. A small input that is available at once takes a single request.
pub(super) async fn run(context: &Context, args: WriteArgs) -> anyhow::Result<ExitCode> {
    let reads_stdin = args.command.is_empty()
        && (args.files.is_empty() || args.files.iter().any(|file| is_stdin(file)));
    stdin::check(reads_stdin, args.tee)?;
    let files = open(&args.files)?;
    let header = Header::load(args.header.as_ref())?;
    let client = context.daemon.connect().await?.with_half_duplex(true);
    let mut sources = match &*args.command {
        [] if files.is_empty() => vec![Source::Stdin],
        _ => files,
    };
    let mut held = Vec::new();
    if may_put(&args) {
        held = stdin::read_at_once(&mut sources, client.max_put());
        if sources.is_empty()
            && held.len() <= client.max_put()
            && put(context, &client, &args, &held).await?
        {
            return Ok(ExitCode::Success);
        }
    }
    let replace = args.replace && args.content_type.is_none();
    if let Some(content_type) = &args.content_type {
        // A request to write carries no media type, so create the stream first.
        let if_exists = if args.replace { IfExists::Replace } else { IfExists::Keep };
        let options = CreateOptions::default().content_type(content_type).if_exists(if_exists);
        let created = client.create(&args.path, &options).await;
        created.map_err(|error| {
            context.explain(error, format_args!("cannot write to {}", args.path))
        })?;
    }
    let options = WriteOptions::default().wait_readers(args.wait_readers).replace(replace);
    let options = options.header_bytes(header.size);
    let before_input = header.contents.len() as u64;
    held.extend(header.contents);
    let place = context.daemon.place();
    let waiting = match args.wait_readers {
        0 => format!("the answer of the daemon {place}"),
        readers => format!(
            "readers of {} {place}, {readers} in all; pfs stat {} shows the attached readers",
            args.path, args.path
        ),
    };
    let writer = patiently(&context.printer, waiting, client.writer(&args.path, options)).await;
    let writer = writer
        .map_err(|error| context.explain(error, format_args!("cannot write to {}", args.path)))?;
    if !writer.is_acknowledged() {
        context.printer.info(format_args!(
            "the proxy {place} forwards no answer before the end of the input, so nothing is acknowledged until then; over HTTP/2 \
             (https://), the proxy may forward answers earlier",
        ));
    }
    context.printer.verbose(format_args!(
        "writing to {}, at most {} per chunk",
        args.path,
        size(writer.max_chunk())
    ));

    let (sources, command) = match &*args.command {
        [] => (sources, None),
        command => match Producer::start(command) {
            Ok(Started { producer, output, interruption }) => {
                (vec![Source::Command(output)], Some((producer, interruption)))
            }
            Err(failure) => {
                // Finish the writer as failed: readers learn that the stream is incomplete.
                // Otherwise they would wait for ever.
                writer
                    .finish(failed_end(&args))
                    .await
                    .map_err(|error| failed(&args.path, place, error, Some(0)))?;
                return Err(failure.into());
            }
        },
    };
    // A command prints to the terminal, too.
    let shared = command.is_some()
        || (reads_stdin && terminal::is_shared_by(io::stdin()))
        || (args.tee && terminal::is_shared_by(io::stdout()));
    let progress = Progress::start(
        &context.printer,
        Style::choose(args.progress, context.printer.is_quiet(), shared),
        Role::Writer,
    );
    let mut appender = Appender::new(writer, &args.path, place, progress.counters());
    (appender.header_bytes, appender.before_input) = (header.size, before_input);
    match command {
        None => {
            let appender = append_input(appender, held, sources, &args).await?;
            appender.check_header(&context.printer);
            appender.finish(whole_end(&args)).await?;
            Ok(ExitCode::Success)
        }
        Some((producer, interruption)) => {
            tokio::select! {
                code = append_output(context, appender, held, sources, producer, &args) => code,
                code = interruption.comes() => Ok(code),
            }
        }
    }
}

/// Returns true if a single request can append the whole input: the request waits for no readers,
/// names no header, and shows no progress.
fn may_put(args: &WriteArgs) -> bool {
    let WriteArgs { stream, lines, header, wait_readers, tee, progress, command, .. } = args;
    !(*stream || *lines || *tee || *progress)
        && *wait_readers == 0
        && header.is_none()
        && command.is_empty()
}

/// Appends the whole input as one chunk, with a single request. Returns false if the stream takes
/// no chunk of this size; a writer then explains the limit.
async fn put(
    context: &Context,
    client: &Client,
    args: &WriteArgs,
    input: &[u8],
) -> anyhow::Result<bool> {
    let (path, place) = (&args.path, context.daemon.place());
    let if_exists = if args.replace { IfExists::Replace } else { IfExists::Keep };
    let mut options = PutOptions::default().if_exists(if_exists).close(args.close);
    options.create.content_type.clone_from(&args.content_type);
    let waiting = format_args!("the answer of the daemon {place}");
    match patiently(&context.printer, waiting, client.put(path, input, &options)).await {
        Ok(_) => {
            let len = size(input.len() as u64);
            context.printer.verbose(format_args!("appended {len} to {path} with one request"));
            Ok(true)
        }
        Err(error) if error.code() == Some(ErrorCode::TooLarge) => Ok(false),
        Err(error) => Err(context.explain(error, format_args!("cannot write to {path}"))),
    }
}

/// Appends the output of a command, and finishes the writer according to the command's exit status.
async fn append_output(
    context: &Context,
    appender: Appender<'_>,
    first: Vec<u8>,
    sources: Vec<Source>,
    mut producer: Producer,
    args: &WriteArgs,
) -> anyhow::Result<ExitCode> {
    let appended = async {
        let mut appender = append_input(appender, first, sources, args).await?;
        // A command may run on after it has closed its output.
        let end = appender.wait_for_end(&mut producer).await?;
        appender.check_header(&context.printer);
        if end.is_success() {
            appender.finish(whole_end(args)).await?;
        } else {
            appender.fail(failed_end(args)).await?;
            let now = if args.close { "closed as failed" } else { "incomplete" };
            context.printer.info(format_args!("{end}, so {} is {now}", args.path));
        }
        Ok(end.code())
    };
    let error = match appended.await {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    // The pipe and the writer are dropped by now.
    producer.terminate();
    context.printer.error(format_args!("{error:#}; sending SIGTERM to {}", producer.name()));
    let waiting = format_args!("{} to exit", producer.name().to_owned());
    let _ = patiently(&context.printer, waiting, producer.ended()).await;
    Ok(ExitCode::from_error(&error))
}

/// Returns true if an operand stands for standard input.
fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Opens all files before anything is appended.
fn open(files: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let source = |file: &PathBuf| {
        if is_stdin(file) {
            return Ok(Source::Stdin);
        }
        let opened = File::open(file).and_then(|opened| {
            // Opening a directory succeeds, but reading it fails.
            if opened.metadata()?.is_dir() {
                Err(ErrorKind::IsADirectory.into())
            } else {
                Ok(opened)
            }
        });
        Ok(Source::File(opened.with_context(|| format!("cannot read {}", file.display()))?))
    };
    files.iter().map(source).collect()
}

/// Appends the input to its end, after these `first` bytes: the header, or what was read from the
/// sources before. Returns the writer.
async fn append_input<'a>(
    mut appender: Appender<'a>,
    first: Vec<u8>,
    sources: Vec<Source>,
    args: &WriteArgs,
) -> anyhow::Result<Appender<'a>> {
    let max_chunk = usize::try_from(appender.writer.max_chunk()).unwrap_or(usize::MAX);
    if args.stream || args.lines {
        for source in &sources {
            pipe::enlarge(source.as_fd());
        }
        let block = usize::try_from(args.chunk_size).unwrap_or(usize::MAX).min(max_chunk);
        for part in first.chunks(max_chunk.max(1)) {
            appender.append(part).await?;
        }
        if appender.writer.is_shm() && !args.lines && !args.tee {
            for source in &sources {
                append_directly(source, &mut appender, block).await?;
            }
        } else {
            let input = Input::new(sources, block, args.tee).context("cannot read the input")?;
            if args.lines {
                append_lines(input, &mut appender, max_chunk).await?;
            } else {
                append_blocks(input, &mut appender).await?;
            }
        }
    } else {
        let input = Input::new(sources, BLOCK, args.tee).context("cannot read the input")?;
        match one_chunk(first, input, &mut appender, max_chunk, &args.path).await {
            Ok(chunk) => appender.append(&chunk).await?,
            Err(error) => {
                appender.withdraw().await;
                return Err(error);
            }
        }
    }
    Ok(appender)
}

/// Appends every read as a chunk. Under a lease, the kernel writes the data straight into the
/// stream's ring buffer. Small chunks are sent together if more input is available.
async fn append_directly(
    source: &Source,
    appender: &mut Appender<'_>,
    block: usize,
) -> anyhow::Result<()> {
    let readable = source
        .as_fd()
        .try_clone_to_owned()
        .and_then(Readable::new)
        .context("cannot watch the input")?;
    loop {
        if !readable.now() {
            if let Err(error) = appender.writer.send().await {
                return Err(appender.failed(error));
            }
            tokio::select! {
                biased;
                () = readable.wait() => {}
                error = appender.writer.failure() => return Err(appender.failed(error)),
            }
            continue;
        }
        match appender.writer.append_from(source, block).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(len)) => appender.taken(len),
            Ok(Err(error))
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Ok(Err(error)) => return Err(appender.give_up(InputError::Read(error).into()).await),
            Err(error) => return Err(appender.failed(error)),
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Appends every block as a chunk.
async fn append_blocks(mut input: Input, appender: &mut Appender<'_>) -> anyhow::Result<()> {
    while let Some(block) = appender.next_block(&mut input).await? {
        appender.append(&block).await?;
    }
    Ok(())
}

/// Appends chunks of whole lines.
async fn append_lines(
    mut input: Input,
    appender: &mut Appender<'_>,
    max_chunk: usize,
) -> anyhow::Result<()> {
    let mut cutter = LineCutter::new(max_chunk);
    while let Some(block) = appender.next_block(&mut input).await? {
        let mut rest = &*block;
        loop {
            match cutter.cut(&mut rest) {
                Ok(Some(chunk)) => appender.append(chunk).await?,
                Ok(None) => break,
                Err(error) => return Err(appender.give_up(error.into()).await),
            }
        }
    }
    match cutter.rest() {
        Some(rest) => appender.append(rest).await,
        None => Ok(()),
    }
}

/// Adds the whole input to `chunk`, if the stream takes it as one chunk.
async fn one_chunk(
    mut chunk: Vec<u8>,
    mut input: Input,
    appender: &mut Appender<'_>,
    max_chunk: usize,
    path: &StreamPath,
) -> anyhow::Result<Vec<u8>> {
    if appender.before_input > max_chunk as u64 {
        let message = format!(
            "cannot append to {path}: the header is larger than {max_chunk} bytes, the largest chunk of the stream, and \
             nothing was appended; to send header and input in chunks: pfs write --stream {path}"
        );
        return Err(Failure::new(ExitCode::Failure, message).into());
    }
    loop {
        if chunk.len() > max_chunk {
            let message = format!(
                "cannot append to {path}: the input is larger than {max_chunk} bytes, the largest chunk of the stream, and \
                 nothing was appended; to send the input in chunks: pfs write --stream {path}"
            );
            return Err(Failure::new(ExitCode::Failure, message).into());
        }
        let Some(block) = appender.next_block(&mut input).await? else { return Ok(chunk) };
        chunk.extend_from_slice(&block);
    }
}

/// Appends chunks, and counts the bytes that are certain to be in the stream.
struct Appender<'a> {
    writer: Writer,
    path: &'a StreamPath,
    /// The address of the stream's daemon.
    place: &'a Place,
    counters: &'a Counters,
    /// Sizes of the chunks that are not acknowledged yet. Empty if a proxy withholds
    /// acknowledgements.
    pending: VecDeque<usize>,
    acked_chunks: u64,
    acked_bytes: u64,
    /// The size of the header that the writer names, and how much of it comes before the input.
    header_bytes: u32,
    before_input: u64,
}

impl<'a> Appender<'a> {
    fn new(writer: Writer, path: &'a StreamPath, place: &'a Place, counters: &'a Counters) -> Self {
        Self {
            writer,
            path,
            place,
            counters,
            pending: VecDeque::new(),
            acked_chunks: 0,
            acked_bytes: 0,
            header_bytes: 0,
            before_input: 0,
        }
    }

    /// Returns the next block of the input; `None` at its end. Sends what was appended before it
    /// waits for input.
    async fn next_block(&mut self, input: &mut Input) -> anyhow::Result<Option<Block>> {
        let block = match input.try_next() {
            Some(block) => Some(block),
            None => match self.wait_for_block(input).await {
                Ok(block) => block,
                Err(error) => return Err(self.failed(error)),
            },
        };
        match block.transpose() {
            Ok(block) => Ok(block),
            Err(error) => Err(self.give_up(error.into()).await),
        }
    }

    /// Waits for the next block. Counts acknowledgements meanwhile, and detects the end of
    /// the stream.
    async fn wait_for_block(
        &mut self,
        input: &mut Input,
    ) -> Result<Option<Result<Block, InputError>>, WriteError> {
        tokio::select! {
            biased;
            acknowledged = self.writer.flush() => acknowledged?,
            block = input.next() => return Ok(block),
        }
        self.count();
        tokio::select! {
            biased;
            block = input.next() => Ok(block),
            error = self.writer.failure() => Err(error),
        }
    }

    /// Appends a chunk. A small chunk is sent together with the next ones if more input
    /// is available.
    async fn append(&mut self, chunk: &[u8]) -> anyhow::Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.writer.push(chunk).await {
            return Err(self.failed(error));
        }
        self.taken(chunk.len());
        Ok(())
    }

    /// Counts a chunk that was handed to the writer.
    fn taken(&mut self, len: usize) {
        if self.writer.is_acknowledged() {
            self.pending.push_back(len);
        }
        self.counters.head.fetch_add(len as u64, Relaxed);
        self.count();
    }

    /// Tells the user if the input ended within the header.
    fn check_header(&self, printer: &Printer) {
        let (appended, header) = (self.counters.head.load(Relaxed), self.header_bytes);
        if appended < header.into() {
            printer.info(format_args!(
                "the input ended after {appended} bytes of the header, which should have {header} bytes, so {} has no new header",
                self.path
            ));
        }
    }

    /// Finishes the writer after all chunks are in the stream.
    async fn finish(mut self, finish: Finish) -> anyhow::Result<()> {
        if let Err(error) = self.writer.flush().await {
            return Err(self.failed(error));
        }
        self.count();
        let (path, place, appended) = (self.path, self.place, self.appended());
        self.writer.finish(finish).await.map_err(|error| failed(path, place, error, appended))?;
        Ok(())
    }

    /// How many bytes of the input are certain to be in the stream, if known.
    fn appended(&self) -> Option<u64> {
        let input = self.acked_bytes.saturating_sub(self.before_input);
        self.writer.is_acknowledged().then_some(input)
    }

    /// Withdraws the writer before anything was appended, without a trace: no reader
    /// misses anything.
    async fn withdraw(self) {
        // Ignored: the user is told of the earlier error.
        let _ = self.writer.withdraw().await;
    }

    /// Finishes the writer as failed. All chunks are in the stream, but the input is incomplete.
    async fn fail(self, finish: Finish) -> anyhow::Result<()> {
        let (path, place, appended) = (self.path, self.place, self.appended());
        self.writer.finish(finish).await.map_err(|error| failed(path, place, error, appended))?;
        Ok(())
    }

    /// Flushes all chunks, then waits until the command exits. Fails if the stream ends first.
    async fn wait_for_end(&mut self, producer: &mut Producer) -> anyhow::Result<End> {
        if let Err(error) = self.writer.flush().await {
            return Err(self.failed(error));
        }
        self.count();
        tokio::select! {
            biased;
            end = producer.ended() => end.with_context(|| format!("cannot wait for {}", producer.name())),
            error = self.writer.failure() => Err(self.failed(error)),
        }
    }

    /// Flushes the chunks after an error that the stream did not cause. The writer does not finish,
    /// so that readers learn that its input is incomplete.
    async fn give_up(&mut self, error: anyhow::Error) -> anyhow::Error {
        if let Err(error) = self.writer.flush().await {
            return self.failed(error);
        }
        self.count();
        let after = self.appended().map(|bytes| format!(" after {bytes} bytes of the input"));
        error.context(format!("stopped writing to {}{}", self.path, after.unwrap_or_default()))
    }

    /// Counts the chunks that were acknowledged.
    fn count(&mut self) {
        while self.acked_chunks < self.writer.acked() {
            let Some(size) = self.pending.pop_front() else { break };
            self.acked_chunks += 1;
            self.acked_bytes += size as u64;
        }
        self.counters.bytes.store(self.acked_bytes, Relaxed);
        self.counters.position.store(self.acked_bytes, Relaxed);
    }

    fn failed(&mut self, error: WriteError) -> anyhow::Error {
        self.count();
        failed(self.path, self.place, error, self.appended())
    }
}

/// How to finish a writer that had all its input.
fn whole_end(args: &WriteArgs) -> Finish {
    if args.close { Finish::Close } else { Finish::KeepOpen }
}

/// How to finish a writer whose command failed.
fn failed_end(args: &WriteArgs) -> Finish {
    if args.close { Finish::CloseFailed } else { Finish::Failed }
}

/// Explains why the writer cannot continue, and how much of the input is certain to be in the
/// stream, if known.
fn failed(
    path: &StreamPath,
    place: &Place,
    error: WriteError,
    appended: Option<u64>,
) -> anyhow::Error {
    let done = match appended {
        Some(bytes) => format!("{bytes} bytes of the input were appended before"),
        None => "how much of the input was appended is not known".to_owned(),
    };
    let message = match &error {
        WriteError::DaemonGone(why) if why.is::<ProxyBroke>() => {
            format!("the connection broke while pfs wrote to {path} ({why}); {done}")
        }
        WriteError::DaemonGone(why) => {
            format!("the daemon {place} went away while pfs wrote to {path} ({why}); {done}")
        }
        WriteError::Closed | WriteError::Removed => {
            format!("cannot append to {path}: {error}; {done}")
        }
        WriteError::Other(cause)
            if let Some(RequestError::Daemon { message, .. }) = cause.downcast_ref() =>
        {
            format!("{message}; {done}")
        }
        _ => return anyhow::Error::new(error).context(format!("cannot append to {path}; {done}")),
    };
    Failure::new(ExitCode::from_error(&error.into()), message).into()
}
