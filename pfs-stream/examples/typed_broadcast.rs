//! Typed values instead of bytes: readings of a sensor, encoded as JSON, and as postcard where size
//! matters.
//!
//! `cargo run -p pfs-stream --features postcard --example typed_broadcast`

use std::io::{self, Write};

use pfs_stream::{Finish, Postcard, ReadOptions, Stream, StreamConfig, TypedReader, TypedWriter};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

fn main() -> Result<()> {
    run(io::stdout())
}

fn run(mut output: impl Write) -> Result<()> {
    let stream = Stream::local("sensors", StreamConfig::default())?;
    let reader = || stream.reader(ReadOptions::default());
    let (dashboard, recorder, raw) =
        (TypedReader::<Reading>::json(reader()?), reader()?, reader()?);
    let mut writer = TypedWriter::<Reading>::json(stream.writer()?);

    for (sensor, celsius) in [("kitchen", 21.5), ("cellar", 12.0)] {
        writer.append_blocking(&Reading { sensor: sensor.to_owned(), celsius })?;
        writeln!(output, "sent {sensor} to {} readers", writer.get_ref().readers())?;
    }
    // Another writer appends something else to the same stream.
    stream.writer()?.append_blocking(b"not a reading")?;
    writer.append_blocking(&Reading { sensor: "attic".to_owned(), celsius: 30.5 })?;
    writer.into_inner().finish(Finish::Close);

    writeln!(output, "\nthe dashboard:")?;
    for reading in dashboard {
        match reading {
            Ok(Reading { sensor, celsius }) => writeln!(output, "  {sensor} {celsius:.1} °C")?,
            Err(error) if error.is_final() => return Err(error.into()),
            Err(error) => writeln!(output, "  {error}")?,
        }
    }
    // A value is a line of JSON, so programs without the type can read it too.
    writeln!(output, "\nthe same as text:")?;
    for line in raw {
        writeln!(output, "  {}", String::from_utf8_lossy(&line?).trim_end())?;
    }
    let json: usize = recorder.into_iter().filter_map(|chunk| Some(chunk.ok()?.len())).sum();

    let small = Stream::local("sensors, small", StreamConfig::default())?;
    let mut writer = TypedWriter::<Reading, _, Postcard>::with_codec(small.writer()?);
    let readings =
        TypedReader::<Reading, _, Postcard>::with_codec(small.reader(ReadOptions::default())?);
    writer.append_blocking(&Reading { sensor: "attic".to_owned(), celsius: 30.5 })?;
    writer.into_inner().finish(Finish::Close);
    writeln!(
        output,
        "\n{json} bytes of JSON in all; one reading as postcard: {}",
        small.bytes_written()
    )?;
    for reading in readings {
        writeln!(output, "  {:?}", reading?)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "printed/mod.rs"]
mod printed;

#[test]
fn it_prints_every_reading_and_reports_the_chunk_that_is_none() {
    assert_eq!(
        printed::by(|output| run(output).unwrap()),
        r#"sent kitchen to 3 readers
sent cellar to 3 readers

the dashboard:
  kitchen 21.5 °C
  cellar 12.0 °C
  the chunk of 13 bytes before offset 84 does not decode to a value
  attic 30.5 °C

the same as text:
  {"sensor":"kitchen","celsius":21.5}
  {"sensor":"cellar","celsius":12.0}
  not a reading
  {"sensor":"attic","celsius":30.5}

118 bytes of JSON in all; one reading as postcard: 14
  Reading { sensor: "attic", celsius: 30.5 }
"#
    );
}
