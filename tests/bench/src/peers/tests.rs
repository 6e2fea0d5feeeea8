//! What every reader's protocol must do with bytes that arrive in pieces.

use super::connection::{Fixed, Found, Frame, Parse};
use super::{baseline, mqtt, nats, resp};
use crate::stamp::Chunk;

const LEN: usize = 300;

/// Gives the parser ever more of the bytes until it says what is first.
fn first(parse: &mut impl Parse, bytes: &[u8]) -> (Found, Vec<u8>) {
    let mut answer = Vec::new();
    for end in 0..=bytes.len() {
        match parse.parse(&bytes[..end], &mut answer).expect("valid bytes") {
            Found::Partial => assert!(answer.is_empty(), "an answer to a part of a frame"),
            found => return (found, answer),
        }
    }
    panic!("nothing in {:?}", String::from_utf8_lossy(bytes));
}

/// The chunks in these bytes and what was answered.
fn chunks(mut parse: impl Parse, mut bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut chunks, mut answers) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let (found, answer) = first(&mut parse, bytes);
        answers.extend(answer);
        let next = match found {
            Found::Chunk { at, len, next } => {
                chunks.push(bytes[at..at + len].to_vec());
                next
            }
            Found::Other(next) => next,
            Found::Partial => unreachable!("not returned"),
        };
        bytes = &bytes[next..];
    }
    (chunks, answers)
}

fn three() -> Vec<Vec<u8>> {
    (0..3).map(|counter| Chunk::new(LEN).stamped(counter, 0).to_vec()).collect()
}

/// Each chunk between these.
fn framed(head: &[u8], tail: &[u8]) -> Vec<u8> {
    three().iter().flat_map(|chunk| [head, chunk, tail].concat()).collect()
}

fn head(frame: &impl Frame) -> Vec<u8> {
    let mut head = Vec::new();
    frame.head(LEN, &mut head);
    head
}

#[test]
fn chunks_that_arrive_in_pieces_come_out_whole() {
    assert_eq!(chunks(Fixed(LEN), &framed(b"", b"")).0, three());
    assert_eq!(chunks(baseline::Frames, &framed(&head(&baseline::Length), b"")).0, three());
    assert_eq!(chunks(mqtt::Packets, &framed(&head(&mqtt::Publish), b"")).0, three());
    assert_eq!(chunks(nats::Messages, &framed(b"MSG s 1 300\r\n", b"\r\n")).0, three());
    let message = b"*3\r\n$7\r\nmessage\r\n$1\r\ns\r\n$300\r\n";
    assert_eq!(chunks(resp::Messages, &framed(message, b"\r\n")).0, three());
}

#[test]
fn a_ping_of_nats_is_answered() {
    let bytes = [b"PING\r\n", &*framed(b"MSG s 1 300\r\n", b"\r\n"), b"PING\r\n"].concat();
    assert_eq!(chunks(nats::Messages, &bytes), (three(), b"PONG\r\nPONG\r\n".to_vec()));
}

#[test]
fn the_last_entry_of_a_reply_leads_to_the_next() {
    let entry =
        |chunk: &Vec<u8>| [b"*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\nd\r\n$300\r\n", &chunk[..], b"\r\n"].concat();
    let entries: Vec<u8> = three().iter().flat_map(entry).collect();
    let bytes = [b"*1\r\n*2\r\n$1\r\ns\r\n*3\r\n", &entries[..]].concat();
    let (chunks, answer) = chunks(resp::Entries::asking_for(9), &bytes);
    assert_eq!(chunks, three());
    let next = "*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$1\r\n9\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$3\r\n7-1\r\n";
    assert_eq!(String::from_utf8_lossy(&answer), next);
}

#[test]
fn an_error_reply_is_not_taken_for_a_chunk() {
    let error = b"-ERR max number of clients reached, so there is nothing for you to read here\r\n";
    let mut answer = Vec::new();
    assert!(resp::Messages.parse(error, &mut answer).is_err());
    assert!(resp::Entries::asking_for(1).parse(error, &mut answer).is_err());
    assert!(nats::Messages.parse(error, &mut answer).is_err());
    assert!(mqtt::Packets.parse(b"\xe0\0", &mut answer).is_err());
}
