//! A reader that survives its own death: each time it is started again, it goes on exactly where it
//! was.
//!
//!     cargo run -p pfs-client --example resume
//!
//! A writer fills a stream with numbers. A reader, a process of its own, adds them to a file of
//! results, and is killed again and again while it does. What it has done is known from the results
//! alone: each line begins with the offset after its number. A reader that starts cuts off what is
//! half written, and reads on from the last offset. So every number is in the results once,
//! whenever the reader was killed.

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

/// How many numbers there are.
const NUMBERS: u64 = 1000;

/// A reader is killed after so many.
const LIFE: usize = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The daemon that `pfs` uses. One is started if none answers.
    let client = Client::connect_or_start(Endpoint::from_env()?).await?;
    match arguments.as_slice() {
        [] => demonstrate(&client).await,
        [word, path, results] if word == "read" => {
            read(&client, &path.parse()?, Path::new(results)).await
        }
        _ => Err("usage: resume [read PATH RESULTS]".into()),
    }
}

/// The reader: goes on where the results end.
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
            // It was away for so long that the stream has moved on. That is known exactly, too.
            Event::Gap { from, to, .. } => {
                return Err(format!("lost offsets {from} to {to}").into());
            }
            Event::End { .. } => return Ok(()),
            _ => (),
        }
    }
}

/// The results, without a last line that is half written, and the offset that they go up to.
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

/// Writes, starts readers and kills them, and looks at the results.
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
    println!("the results of {runs} runs have each of them once, in order");
    std::fs::remove_file(&results)?;
    client.remove(&path).await?;
    Ok(())
}

/// Runs readers one after the other until one has reached the end; tells how many it were.
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

/// Kills the reader when it has printed enough; tells what it said first. `None` if it ended by
/// itself.
fn watch(reader: &mut Child) -> Result<Option<String>, Box<dyn Error>> {
    let mut lines = BufReader::new(reader.stdout.take().ok_or("it has no output")?).lines();
    let begin = lines.next().transpose()?.unwrap_or_default();
    if lines.nth(LIFE - 1).transpose()?.is_none() {
        return Ok(None);
    }
    reader.kill()?;
    reader.wait()?;
    Ok(Some(begin))
}

/// That each number is there once, and in order.
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
