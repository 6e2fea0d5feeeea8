//! mosquitto over its Unix socket: MQTT 3.1.1, QoS 0.

use std::fs::File;
use std::io::{self, Write};

use super::Address;
use super::connection::{Found, Frame, FramedReader, FramedWriter, Parse, connect, expect, unexpected};
use super::server::{Server, Start};
use crate::job::Job;

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;

/// The topic "s" with its length.
const TOPIC: &[u8] = b"\0\x01s";

/// mosquitto without its limit on what is queued for a subscriber: the writer keeps to a window.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let (socket, config) = (start.dir.join("mosquitto.sock"), start.dir.join("mosquitto.conf"));
    let lines = [
        format!("listener 0 {}", socket.display()),
        "allow_anonymous true".to_owned(),
        "max_queued_messages 0".to_owned(),
        "max_queued_bytes 0".to_owned(),
        "persistence false".to_owned(),
        // Started by root, it would become somebody who may not make the socket.
        "user root".to_owned(),
        "log_type error".to_owned(),
    ];
    std::fs::write(&config, lines.join("\n"))?;
    let mut command = start.command("mosquitto");
    command.arg("-c").arg(&config);
    Ok(Server::new(start.spawn(&mut command)?, Address::Unix(socket)))
}

/// A PUBLISH packet around a chunk.
pub struct Publish;

impl Frame for Publish {
    fn head(&self, len: usize, out: &mut Vec<u8>) {
        out.push(PUBLISH);
        length(len + TOPIC.len(), out);
        out.extend_from_slice(TOPIC);
    }
}

fn length(mut len: usize, out: &mut Vec<u8>) {
    while len >= 0x80 {
        out.push((len % 0x80) as u8 | 0x80);
        len /= 0x80;
    }
    out.push(len as u8);
}

fn open(job: &Job, name: &str) -> io::Result<File> {
    let mut connection = connect(&job.address)?;
    let mut packet = vec![CONNECT];
    length(12 + name.len(), &mut packet);
    // Protocol level 4, clean session, no keep-alive.
    packet.extend_from_slice(b"\0\x04MQTT\x04\x02\0\0\0");
    packet.push(name.len() as u8);
    packet.extend_from_slice(name.as_bytes());
    connection.write_all(&packet)?;
    expect(&mut connection, b"\x20\x02\0\0")?;
    Ok(connection)
}

/// A publisher.
pub fn writer(job: &Job) -> io::Result<FramedWriter<Publish>> {
    Ok(FramedWriter::new(open(job, "writer")?, Publish))
}

/// A subscriber.
pub fn subscribe(job: &Job) -> io::Result<FramedReader<Packets>> {
    let name = format!("{}-{:?}", std::process::id(), std::thread::current().id());
    let mut connection = open(job, &name)?;
    connection.write_all(&[&[SUBSCRIBE, 6, 0, 1], TOPIC, &[0]].concat())?;
    expect(&mut connection, b"\x90\x03\0\x01\0")?;
    Ok(FramedReader::new(connection, job.load.chunk, Packets))
}

/// What a subscriber gets.
pub struct Packets;

impl Parse for Packets {
    #[inline]
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        let mut rest = 0usize;
        for index in 1..5 {
            let Some(byte) = data.get(index) else { return Ok(Found::Partial) };
            rest |= usize::from(byte & 0x7f) << (7 * (index - 1));
            if *byte < 0x80 {
                let (at, next) = (index + 1 + TOPIC.len(), index + 1 + rest);
                if data.len() < next {
                    return Ok(Found::Partial);
                }
                return match data[0] {
                    PUBLISH if rest >= TOPIC.len() => Ok(Found::Chunk { at, len: next - at, next }),
                    _ => Err(unexpected("a message", data)),
                };
            }
        }
        Err(unexpected("a length", data))
    }
}
