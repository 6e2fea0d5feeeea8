//! Video relay over TCP: one source, any number of viewers. A viewer that cannot keep up loses
//! chunks, which are counted, and delays nobody else.
//!
//! `cargo run --release -p pfs-stream --example video_relay` runs a demonstration with its own
//! source and three viewers, the third of which reads nothing until the film is over. With two
//! addresses it relays for other programs: `video_relay 127.0.0.1:5000 127.0.0.1:5001` takes
//! `ffmpeg … tcp://127.0.0.1:5000` and serves `ffplay tcp://127.0.0.1:5001`.

use std::{
    env,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
};

use pfs_stream::{Finish, LostData, ReadOptions, Start, Stream, StreamConfig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const CHUNK_SIZE: usize = 4096;
const BUFFER_SIZE: u64 = 1024 * 1024;

fn main() -> Result<()> {
    let stream = video()?;
    let addresses: Vec<String> = env::args().skip(1).collect();
    let [source, viewers] = addresses.as_slice() else {
        return demonstrate(&stream, &mut io::stdout());
    };
    let (source, viewers) = (TcpListener::bind(source)?, TcpListener::bind(viewers)?);
    let relayed = stream.clone();
    thread::spawn(move || {
        for connection in viewers.incoming() {
            let (Ok(connection), stream) = (connection, relayed.clone()) else { continue };
            thread::spawn(move || serve_viewer(connection, &stream));
        }
    });
    serve_source(source.accept()?.0, &stream)
}

fn video() -> Result<Stream> {
    let config = StreamConfig {
        ring_buffer_size: BUFFER_SIZE,
        channel_buffer_size: BUFFER_SIZE,
        ..Default::default()
    };
    Ok(Stream::local("video", config)?)
}

/// Appends everything that the source sends, until the source closes its connection.
fn serve_source(mut connection: TcpStream, stream: &Stream) -> Result<()> {
    let mut writer = stream.writer()?;
    let mut chunk = [0; CHUNK_SIZE];
    loop {
        match connection.read(&mut chunk)? {
            0 => break,
            size => writer.write_all(chunk.split_at(size).0)?,
        }
    }
    writer.finish(Finish::Close);
    Ok(())
}

/// Result of serving a viewer.
struct Served {
    bytes: u64,
    lost_bytes: u64,
    /// Chunks lost because the viewer was too slow.
    overrun: u64,
}

/// Sends a viewer every chunk that it can keep up with.
fn serve_viewer(mut connection: TcpStream, stream: &Stream) -> Result<Served> {
    let options = ReadOptions { start: Start::New, ..ReadOptions::default() };
    let mut video = stream.reader(options)?.into_iter();
    let mut bytes = 0;
    for chunk in &mut video {
        match chunk {
            Ok(chunk) => {
                connection.write_all(&chunk)?;
                bytes += chunk.len() as u64;
            }
            // After a gap, a player finds the next picture by itself. Any other error ends the
            // viewer.
            Err(error) if LostData::from_io_error(&error).is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let reader = video.get_ref();
    Ok(Served { bytes, lost_bytes: reader.lost_bytes(), overrun: reader.lost_chunks() })
}

/// Size of the demonstration's film, in bytes.
const FILM: u64 = 64 * 1024 * 1024;

fn demonstrate(stream: &Stream, output: &mut impl Write) -> Result<()> {
    let (source, viewers) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let (source_address, viewers_address) = (source.local_addr()?, viewers.local_addr()?);
    // Bytes seen by each viewer. Like a camera, the source does not run far ahead of the first two
    // viewers.
    let seen = [const { AtomicU64::new(0) }; 3];
    let served = thread::scope(|scope| -> Result<Vec<Served>> {
        let mut serving = Vec::new();
        for (number, seen) in seen.iter().enumerate() {
            let viewer = TcpStream::connect(viewers_address)?;
            let connection = viewers.accept()?.0;
            serving.push(scope.spawn(move || serve_viewer(connection, stream)));
            scope.spawn(move || view(viewer, number == 2, seen, stream));
        }
        pollster::block_on(stream.readers_reach(3));
        let sending = scope.spawn(|| film(TcpStream::connect(source_address)?, &seen));
        serve_source(source.accept()?.0, stream)?;
        sending.join().map_err(|_| "the source panicked")??;
        serving.into_iter().map(|viewer| viewer.join().map_err(|_| "a viewer panicked")?).collect()
    })?;
    writeln!(output, "relayed {} bytes", stream.bytes_written())?;
    for (number, Served { bytes, lost_bytes, overrun }) in (1..).zip(served) {
        writeln!(
            output,
            "viewer {number}: {bytes} bytes, overrun {overrun} chunks with {lost_bytes} bytes"
        )?;
    }
    Ok(())
}

/// Sends the film, at most a quarter of the buffer ahead of the first two viewers.
fn film(mut connection: TcpStream, seen: &[AtomicU64; 3]) -> io::Result<()> {
    let frame = vec![7; 64 * 1024];
    let mut sent = 0;
    while sent < FILM {
        while seen.iter().take(2).any(|seen| seen.load(SeqCst) + BUFFER_SIZE / 4 < sent) {
            thread::yield_now();
        }
        connection.write_all(&frame)?;
        sent += frame.len() as u64;
    }
    Ok(())
}

/// Reads the film, at once or, if `late`, when it is over.
fn view(
    mut connection: TcpStream,
    late: bool,
    seen: &AtomicU64,
    stream: &Stream,
) -> io::Result<()> {
    while late && stream.is_active() {
        thread::yield_now();
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            size => seen.fetch_add(size as u64, SeqCst),
        };
    }
}

#[cfg(test)]
#[path = "printed/mod.rs"]
mod printed;

#[test]
fn fast_viewers_get_the_whole_film_and_the_slow_viewer_is_told_what_it_lost() {
    let printed = printed::by(|mut output| demonstrate(&video().unwrap(), &mut output).unwrap());
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], format!("relayed {FILM} bytes"));
    for (line, number) in lines[1..3].iter().zip(1..) {
        assert_eq!(**line, format!("viewer {number}: {FILM} bytes, overrun 0 chunks with 0 bytes"));
    }
    let stats: Vec<u64> = lines[3].split(' ').filter_map(|word| word.parse().ok()).collect();
    let [got, overrun, lost] = stats.as_slice() else { panic!("{}", lines[3]) };
    assert_eq!(got + lost, FILM, "every byte arrived or was counted as lost");
    assert!(*overrun >= lost / CHUNK_SIZE as u64 && *lost > 0, "{}", lines[3]);
}
