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
/// First byte of a PUBLISH packet: with QoS 1 and a request to retain, and with QoS 0 for a
/// retained message.
const RETAIN: u8 = 0x33;
const RETAINED: u8 = 0x31;

/// Topic "s" with its length.
const TOPIC: &[u8] = b"\0\x01s";

/// Starts mosquitto without its limit on the queue of a subscriber: the writer keeps to a window.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let (socket, config) = (start.dir.join("mosquitto.sock"), start.dir.join("mosquitto.conf"));
    let lines = [
        format!("listener 0 {}", socket.display()),
        "allow_anonymous true".to_owned(),
        "max_queued_messages 0".to_owned(),
        "max_queued_bytes 0".to_owned(),
        "persistence false".to_owned(),
        // Started by root, mosquitto would switch to a user that may not create the socket.
        "user root".to_owned(),
        "log_type error".to_owned(),
    ];
    std::fs::write(&config, lines.join("\n"))?;
    let mut command = start.command("mosquitto");
    command.arg("-c").arg(&config);
    Ok(Server::new(start.spawn(&mut command)?, Address::Unix(socket)))
}

/// PUBLISH packet around a chunk.
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

/// Connects under this client name.
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

/// Connects a publisher.
pub fn writer(job: &Job) -> io::Result<FramedWriter<Publish>> {
    Ok(FramedWriter::new(open(&job.address, "writer")?, Publish))
}

/// Connects a subscriber.
pub fn subscribe(job: &Job) -> io::Result<FramedReader<Packets>> {
    let name = format!("{}-{:?}", std::process::id(), std::thread::current().id());
    let mut connection = open(&job.address, &name)?;
    connection.write_all(&[&[SUBSCRIBE, 6, 0, 1], TOPIC, &[0]].concat())?;
    expect(&mut connection, b"\x90\x03\0\x01\0")?;
    Ok(FramedReader::new(connection, job.load.chunk, Packets))
}

/// Subscribes to this topic, with a client of the same name. Reads neither the answer nor the
/// retained messages.
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

/// Parser of packets for a subscriber.
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

/// Returns the start and the end of a packet's content, if the packet is complete.
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

/// Publishes a chunk that the topic retains. The last bits of `number` are in the answer.
pub fn retain(number: usize, topic: &str, chunk: &[u8], out: &mut Vec<u8>) {
    out.push(RETAIN);
    length(2 + topic.len() + 2 + chunk.len(), out);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    // 0 is not a valid packet number.
    out.extend_from_slice(&((number % 0xffff) as u16 + 1).to_be_bytes());
    out.extend_from_slice(chunk);
}

/// Parser of answers to [`retain`].
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

/// Subscribes to everything, and sends a ping whose answer follows the last retained message.
pub const SUBSCRIBE_ALL: &[u8] = b"\x82\x06\0\x01\0\x01#\0\xc0\0";

/// Parser of retained messages, followed by an empty chunk.
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
