//! mosquitto over its Unix socket: MQTT 3.1.1, QoS 0, and QoS 1 for retained messages.

use std::{
    fs::File,
    io::{self, Write},
};

use super::{
    Address,
    connection::{Found, Frame, FramedReader, FramedWriter, Parse, connect, expect, unexpected},
    server::{Server, Start},
};
use crate::job::Job;

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
/// A PUBLISH with QoS 1 that is to be retained, and one of QoS 0 that was.
const RETAIN: u8 = 0x33;
const RETAINED: u8 = 0x31;

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

/// Connects under a name.
pub fn open(address: &Address, name: &str) -> io::Result<File> {
    let mut connection = connect(address)?;
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
    Ok(FramedWriter::new(open(&job.address, "writer")?, Publish))
}

/// A subscriber.
pub fn subscribe(job: &Job) -> io::Result<FramedReader<Packets>> {
    let name = format!("{}-{:?}", std::process::id(), std::thread::current().id());
    let mut connection = open(&job.address, &name)?;
    connection.write_all(&[&[SUBSCRIBE, 6, 0, 1], TOPIC, &[0]].concat())?;
    expect(&mut connection, b"\x90\x03\0\x01\0")?;
    Ok(FramedReader::new(connection, job.load.chunk, Packets))
}

/// A subscriber to this topic, of its name. The answer, and what is retained, are still to come.
pub fn subscribe_to(address: &Address, topic: &str) -> io::Result<File> {
    let mut connection = open(address, topic)?;
    let mut packet = vec![SUBSCRIBE];
    length(2 + 2 + topic.len() + 1, &mut packet);
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    packet.extend_from_slice(topic.as_bytes());
    packet.push(0);
    connection.write_all(&packet)?;
    Ok(connection)
}

/// What a subscriber gets.
pub struct Packets;

impl Parse for Packets {
    #[inline]
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        let Some((at, next)) = packet(data)? else { return Ok(Found::Partial) };
        match data[0] {
            PUBLISH if next - at >= TOPIC.len() => {
                let at = at + TOPIC.len();
                Ok(Found::Chunk { at, len: next - at, next })
            }
            _ => Err(unexpected("a message", data)),
        }
    }
}

/// Where the content of a packet begins, and where it ends, if the packet is complete.
#[inline]
fn packet(data: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut rest = 0usize;
    for index in 1..5 {
        let Some(byte) = data.get(index) else { return Ok(None) };
        rest |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if *byte < 0x80 {
            let (at, next) = (index + 1, index + 1 + rest);
            return Ok((data.len() >= next).then_some((at, next)));
        }
    }
    Err(unexpected("a length", data))
}

/// Publishes a chunk that a topic retains. Its answer has the last bits of `number`.
pub fn retain(number: usize, topic: &str, chunk: &[u8], out: &mut Vec<u8>) {
    out.push(RETAIN);
    length(2 + topic.len() + 2 + chunk.len(), out);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    // 0 is no packet's number.
    out.extend_from_slice(&((number % 0xffff) as u16 + 1).to_be_bytes());
    out.extend_from_slice(chunk);
}

/// Answers to [`retain`].
pub struct Acks;

impl Parse for Acks {
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        let Some((at, next)) = packet(data)? else { return Ok(Found::Partial) };
        if data[0] != 0x40 {
            return Err(unexpected("an acknowledgement", data));
        }
        Ok(Found::Chunk { at, len: next - at, next })
    }
}

/// Subscribes to everything, and asks for a sign when all that is retained has come.
pub const SUBSCRIBE_ALL: &[u8] = b"\x82\x06\0\x01\0\x01#\0\xc0\0";

/// What is retained, and then an empty chunk.
pub struct Retained;

impl Parse for Retained {
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        let Some((at, next)) = packet(data)? else { return Ok(Found::Partial) };
        match data[0] {
            RETAINED => Ok(Found::Chunk { at, len: next - at, next }),
            // SUBACK and PINGRESP.
            0x90 => Ok(Found::Other(next)),
            0xd0 => Ok(Found::Chunk { at, len: 0, next }),
            _ => Err(unexpected("a retained message", data)),
        }
    }
}
