//! Exactly-once processing: a reader that is killed and restarted resumes exactly where it stopped.
//!
//!     cargo run -p pfs-client --example resume
//!
//! A writer fills a stream with numbers. A reader, in a process of its own, appends the numbers to
//! a file of results and is killed again and again. The results alone record the progress: each
//! line begins with the offset after its number. A new reader cuts off an incomplete last line and
//! continues at the last offset. So every number is in the results exactly once, no matter when a
//! reader was killed.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use pfs_client::{Client, Endpoint, Event, Finish, ReadOptions, Start, StreamPath, WriteOptions};
use tokio::time::sleep;

/// The number of numbers in the stream.
const NUMBERS: u64 = 1000;

/// The reader is killed after this many numbers.
const LIFE: usize = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The daemon that `pfs` uses. Starts a daemon if none answers.
    let client = Client::connect_or_start(Endpoint::from_env()?).await?;
    match arguments.as_slice() {
        [] => demonstrate(&client).await,
        [word, path, results] if word == "read" => {
            read(&client, &path.parse()?, Path::new(results)).await
        }
        _ => Err("usage: resume [read PATH RESULTS]".into()),
    }
}

/// The reader process: resumes after the last complete line of the results.
async fn read(client: &Client, path: &StreamPath, results: &Path) -> Result<(), Box<dyn Error>> {
    let (mut results, offset) = open(results)?;
    println!("begins at offset {offset}");
    let options = ReadOptions { start: Start::Offset(offset), ..ReadOptions::default() };
    let mut reader = client.reader(path, options).await?;
    loop {
        match reader.next().await? {
            Event::Chunk(chunk) => {
                let number = std::str::from_utf8(&chunk)?;
                writeln!(results, "{} {number}", reader.position())?;
                println!("{number}");
            }
            // The reader was away so long that the stream overwrote its next chunk. The event has
            // the exact range.
            Event::Gap { from, to, .. } => {
                return Err(format!("lost offsets {from} to {to}").into());
            }
            Event::End { .. } => return Ok(()),
            _ => (),
        }
    }
}

/// Opens the results, cuts off an incomplete last line, and returns the offset after the last
/// complete one.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    file.set_len(whole as u64)?;
    file.seek(SeekFrom::End(0))?;
    let last = text[..whole].lines().last().and_then(|line| line.split_once(' '));
    Ok((file, last.and_then(|(offset, _)| offset.parse().ok()).unwrap_or(0)))
}

/// Writes the numbers, starts and kills readers, and checks the results.
async fn demonstrate(client: &Client) -> Result<(), Box<dyn Error>> {
    let id = std::process::id();
    let path: StreamPath = format!("/streamfs/resume-{id}").parse()?;
    let results = std::env::temp_dir().join(format!("pfs-resume-{id}"));
    let mut writer = client.writer(&path, WriteOptions::default()).await?;
    let writing = async {
        for number in 1..=NUMBERS {
            writer.append(number.to_string().as_bytes()).await?;
            sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, Box<dyn Error>>(writer.finish(Finish::Close).await?)
    };
    let reading = {
        let (path, results) = (path.clone(), results.clone());
        tokio::task::spawn_blocking(move || {
            supervise(&path, &results).map_err(|error| error.to_string())
        })
    };
    let (written, read) = tokio::join!(writing, reading);
    let runs = read??;
    println!("the writer wrote {NUMBERS} numbers in {} bytes", written?);
    check(&std::fs::read_to_string(&results)?)?;
    println!("the results of {runs} runs have each number once, in order");
    std::fs::remove_file(&results)?;
    client.remove(&path).await?;
    Ok(())
}

/// Runs one reader after the other until one reaches the end. Returns the number of readers.
fn supervise(path: &StreamPath, results: &Path) -> Result<usize, Box<dyn Error>> {
    let mut runs = 0;
    loop {
        runs += 1;
        let mut reader = Command::new(std::env::current_exe()?)
            .args(["read", path.as_str()])
            .arg(results)
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(begin) = watch(&mut reader)? {
            println!("run {runs} {begin}, and was killed");
        } else if reader.wait()?.success() {
            println!("run {runs} reached the end");
            return Ok(runs);
        } else {
            return Err("the reader failed".into());
        }
    }
}

/// Kills the reader once it has printed enough numbers, and returns its first line. Returns `None`
/// if the reader ended by itself.
fn watch(reader: &mut Child) -> Result<Option<String>, Box<dyn Error>> {
    let mut lines =
        BufReader::new(reader.stdout.take().ok_or("the reader has no standard output")?).lines();
    let begin = lines.next().transpose()?.unwrap_or_default();
    if lines.nth(LIFE - 1).transpose()?.is_none() {
        return Ok(None);
    }
    reader.kill()?;
    reader.wait()?;
    Ok(Some(begin))
}

/// Checks that each number is there once, in order.
fn check(results: &str) -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = results
        .lines()
        .map(|line| line.split_once(' ').map_or(line, |(_, number)| number).parse())
        .collect::<Result<_, _>>()?;
    if numbers.iter().copied().eq(1..=NUMBERS) {
        Ok(())
    } else {
        Err("the results are wrong".into())
    }
}
