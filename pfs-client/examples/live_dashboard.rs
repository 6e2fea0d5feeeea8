//! Live dashboard: one process pushes the load of this machine once a second, another shows the
//! load.
//!
//!     cargo run -p pfs-client --example live_dashboard
//!     cargo run -p pfs-client --example live_dashboard -- 5 200     # 5 lines, one every 200 ms
//!
//! The metrics are a stream of JSON values, so `pfs cat --stream /streamfs/dashboard-…/metrics`
//! shows them too, and any number of dashboards can. A second stream carries the dashboard's
//! requests in the other direction.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, process::Command, time::Duration};

use pfs_client::{
    Client, CreateOptions, Endpoint, Finish, ReadError, ReadOptions, StreamPath, TypedReadError,
    TypedReader, TypedWriter, Until, WriteOptions,
};
use serde::{Deserialize, Serialize};
use tokio::time::interval;

/// The metrics, each in percent.
#[derive(Debug, Deserialize, Serialize)]
struct Metrics {
    cpu: f64,
    memory: f64,
    disk: f64,
}

/// A dashboard's requests to the process that pushes.
#[derive(Debug, Deserialize, Serialize)]
enum Wish {
    /// Send metrics at this interval, in milliseconds.
    Every(u64),
    /// Send no more metrics.
    Stop,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The daemon that `pfs` uses. Starts a daemon if none answers.
    let client = Client::connect_or_start(Endpoint::from_env()?).await?;
    match arguments.as_slice() {
        ["push", base] => push(&client, base).await,
        [] => show(&client, usize::MAX, 1000).await,
        [lines] => show(&client, lines.parse()?, 1000).await,
        [lines, every] => show(&client, lines.parse()?, every.parse()?).await,
        _ => Err("usage: live_dashboard [LINES [MILLISECONDS]]".into()),
    }
}

/// The two streams, one for each direction.
fn streams(base: &str) -> Result<[StreamPath; 2], Box<dyn Error>> {
    Ok([format!("{base}/metrics").parse()?, format!("{base}/wishes").parse()?])
}

/// The process that pushes metrics until a dashboard stops it.
async fn push(client: &Client, base: &str) -> Result<(), Box<dyn Error>> {
    let [metrics, wishes] = streams(base)?;
    let writer = client
        .writer(&metrics, WriteOptions { wait_readers: 1, ..WriteOptions::default() })
        .await?;
    let mut metrics = TypedWriter::<Metrics, _>::json(writer);
    let wait = ReadOptions { wait: true, ..ReadOptions::default() };
    let mut wishes = TypedReader::<Wish, _>::json(client.reader(&wishes, wait).await?);
    let mut machine = Machine::new()?;
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => metrics.append(&machine.measure()?).await?,
            // Waiting for a value is cancel safe, so no value is lost if the clock ticks first.
            wish = wishes.next() => match wish.transpose()? {
                Some(Wish::Every(millis)) => ticks = interval(Duration::from_millis(millis.max(1))),
                Some(Wish::Stop) | None => break,
            },
        }
    }
    metrics.flush().await?;
    let writer = metrics.get_ref();
    println!(
        "pushed {} metrics, the last one to {} dashboard(s)",
        writer.appended(),
        writer.readers()
    );
    metrics.finish(Finish::Close).await?;
    Ok(())
}

/// The process that shows metrics. Starts the process that pushes them.
async fn show(client: &Client, lines: usize, every: u64) -> Result<(), Box<dyn Error>> {
    let base = format!("/streamfs/dashboard-{}", std::process::id());
    let [metrics, wishes] = streams(&base)?;
    let json = Some("application/json".to_owned());
    client
        .create(&metrics, &CreateOptions { content_type: json, ..CreateOptions::default() })
        .await?;
    // If the pushing process dies, the reader fails with `WriterDied` instead of ending.
    let options = ReadOptions { until: Until::WritersGone, ..ReadOptions::default() };
    let mut values = TypedReader::<Metrics, _>::json(client.reader(&metrics, options).await?);
    let mut wishing =
        TypedWriter::<Wish, _>::json(client.writer(&wishes, WriteOptions::default()).await?);
    wishing.append(&Wish::Every(every)).await?;
    let mut pushing = Command::new(std::env::current_exe()?).args(["push", &base]).spawn()?;

    println!("Monitoring system metrics...");
    let mut shown = 0;
    while let Some(value) = values.next().await {
        match value {
            Ok(Metrics { cpu, memory, disk }) if shown < lines => {
                println!("CPU: {cpu:.1}% | Memory: {memory:.1}% | Disk: {disk:.1}%");
                shown += 1;
                if shown == lines {
                    wishing.append(&Wish::Stop).await?;
                }
            }
            Ok(_) => (),
            Err(TypedReadError::Lost(lost)) => println!("this dashboard was too slow: {lost}"),
            Err(TypedReadError::Read(ReadError::WriterDied)) => {
                return Err("the process that pushed has died".into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    pushing.wait()?;
    wishing.finish(Finish::Close).await?;
    client.remove(&metrics).await?;
    client.remove(&wishes).await?;
    Ok(())
}

/// The source of the metrics.
struct Machine(sysinfo::System);

impl Machine {
    fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self(sysinfo::System::new()?))
    }

    fn measure(&mut self) -> Result<Metrics, Box<dyn Error>> {
        let Self(system) = self;
        system.refresh_cpu_usage();
        system.refresh_memory();
        let disk = rustix::fs::statvfs("/")?;
        let used = disk.f_blocks.saturating_sub(disk.f_bfree);
        Ok(Metrics {
            cpu: system.global_cpu_usage().into(),
            memory: percent(system.used_memory(), system.total_memory()),
            // Like df, leave out the blocks that are reserved for root.
            disk: percent(used, used.saturating_add(disk.f_bavail)),
        })
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
