//! One writer, three readers: each reader gets everything that is written.
//!
//! `cargo run -p pfs-stream --features futures --example basic_broadcast`

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use pfs_stream::{ByteStream, Finish, ReadOptions, Reader, Stream, StreamConfig, StreamReader};
use tokio::{runtime::Builder, task::yield_now};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    run(io::stdout())
}

fn run(output: impl Write + Send + 'static) -> Result<()> {
    // One thread, so that the lines come in the same order every time.
    Builder::new_current_thread()
        .build()?
        .block_on(broadcast(&Output(Arc::new(Mutex::new(output)))))
}

async fn broadcast(output: &Output) -> Result<()> {
    output.line("=== Basic Byte Broadcasting Example ===\n")?;

    let stream = Stream::local("1", StreamConfig::default())?;
    let mut writer = stream.writer()?;
    output.line(format!("Created ByteWriter with ID: {}", stream.name()))?;

    let mut readers = Vec::new();
    for number in 1..=3 {
        let reader = stream.reader(ReadOptions::default())?;
        readers.push((number, reader.into_byte_stream()));
    }
    output.line(format!("Created {} streams from the writer\n", stream.readers()))?;

    let mut reading = Vec::new();
    for (number, bytes) in readers {
        reading.push(tokio::spawn(read(number, bytes, output.clone())));
    }
    yield_now().await;

    output.line("\nWriting data to ByteWriter...")?;
    for text in ["Hello, ", "streaming ", "world!"] {
        output.line(format!("Wrote: {text:?}"))?;
        writer.write_all(text.as_bytes())?;
        // Optional: shows that each message arrives before the next one is written.
        while stream.stat().readers.iter().any(|reader| reader.lag > 0) {
            yield_now().await;
        }
    }

    output.line("\nClosing the writer...\n")?;
    writer.finish(Finish::Close);

    output.line("Waiting for all streams to complete...\n")?;
    let mut results = Vec::new();
    for task in reading {
        results.push(task.await??);
    }

    output.line("\n=== Results ===")?;
    for (number, result) in (1..).zip(&results) {
        output.line(format!("Stream {number} received: {result:?}"))?;
    }
    if results.iter().any(|result| result != "Hello, streaming world!") {
        return Err("the streams received different data".into());
    }
    output.line("\n✓ All streams received the same data successfully!")?;
    output.line(format!("✓ Total bytes written: {}", stream.bytes_written()))?;
    Ok(())
}

async fn read(number: usize, mut bytes: ByteStream<Reader>, output: Output) -> Result<String> {
    output.line(format!("Stream {number}: Starting to read..."))?;
    let mut message = Vec::new();
    while let Some(chunk) = bytes.next().await {
        // A gap or a removed stream is an error, never mistaken for data or the end.
        let chunk = chunk?;
        output.line(format!("Stream {number}: Received {} bytes", chunk.len()))?;
        message.extend_from_slice(&chunk);
    }
    let message = String::from_utf8(message)?;
    output.line(format!("Stream {number}: Received end signal"))?;
    output.line(format!("Stream {number}: Complete message: {message:?}"))?;
    Ok(message)
}

/// Output shared by all tasks.
#[derive(Clone)]
struct Output(Arc<Mutex<dyn Write + Send>>);

impl Output {
    fn line(&self, line: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.0.lock().unwrap_or_else(PoisonError::into_inner), "{}", line.as_ref())
    }
}

#[cfg(test)]
#[path = "printed/mod.rs"]
mod printed;

#[test]
fn it_prints_the_expected_output() {
    assert_eq!(
        printed::by(|output| run(output).unwrap()),
        r#"=== Basic Byte Broadcasting Example ===

Created ByteWriter with ID: 1
Created 3 streams from the writer

Stream 1: Starting to read...
Stream 2: Starting to read...
Stream 3: Starting to read...

Writing data to ByteWriter...
Wrote: "Hello, "
Stream 1: Received 7 bytes
Stream 2: Received 7 bytes
Stream 3: Received 7 bytes
Wrote: "streaming "
Stream 1: Received 10 bytes
Stream 2: Received 10 bytes
Stream 3: Received 10 bytes
Wrote: "world!"
Stream 1: Received 6 bytes
Stream 2: Received 6 bytes
Stream 3: Received 6 bytes

Closing the writer...

Waiting for all streams to complete...

Stream 1: Received end signal
Stream 1: Complete message: "Hello, streaming world!"
Stream 2: Received end signal
Stream 2: Complete message: "Hello, streaming world!"
Stream 3: Received end signal
Stream 3: Complete message: "Hello, streaming world!"

=== Results ===
Stream 1 received: "Hello, streaming world!"
Stream 2 received: "Hello, streaming world!"
Stream 3 received: "Hello, streaming world!"

✓ All streams received the same data successfully!
✓ Total bytes written: 23
"#
    );
}
