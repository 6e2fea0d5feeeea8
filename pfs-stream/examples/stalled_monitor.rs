//! A monitor with stall detection: it notices when a source falls silent, and misses nothing that
//! the source sends afterwards.
//!
//! `cargo run -p pfs-stream --features futures,tokio --example stalled_monitor`

use std::{
    io::{self, Write},
    time::Duration,
};

use pfs_stream::{Finish, ReadError, ReadOptions, Stream, StreamConfig, StreamReader};
use tokio::{runtime::Builder, time::sleep};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SILENCE: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(monitor(io::stdout()))
}

async fn monitor(mut output: impl Write) -> Result<()> {
    let stream = Stream::local("heartbeat", StreamConfig::default())?;
    let mut writer = stream.writer()?;
    let reader = stream.reader(ReadOptions::default())?;
    // A stall detector is itself a reader; this monitor reads its bytes.
    let mut beats = reader.stalls_after(SILENCE).into_byte_stream();

    let source = tokio::spawn(async move {
        for (beat, pause) in [("beat 1", 20), ("beat 2", 250), ("beat 3", 20)] {
            writer.write_all(beat.as_bytes())?;
            sleep(Duration::from_millis(pause)).await;
        }
        writer.finish(Finish::Close);
        io::Result::Ok(())
    });
    while let Some(beat) = beats.next().await {
        match beat {
            Ok(beat) => writeln!(output, "{}", String::from_utf8_lossy(&beat))?,
            Err(error) => match ReadError::from_io_error(&error) {
                Some(ReadError::Stalled { after }) => writeln!(output, "no data for {after:?}")?,
                _ => return Err(error.into()),
            },
        }
    }
    writeln!(output, "the end")?;
    source.await??;
    Ok(())
}

#[cfg(test)]
#[path = "printed/mod.rs"]
mod printed;

#[test]
fn it_reports_each_silence_and_every_beat() {
    // Time is paused while any task runs, and jumps to the next timer when all sleep.
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    assert_eq!(
        printed::by(|output| runtime.block_on(monitor(output)).unwrap()),
        "beat 1\nbeat 2\nno data for 100ms\nno data for 100ms\nbeat 3\nthe end\n"
    );
}
