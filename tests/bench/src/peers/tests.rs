//! Tests of each reader's protocol with bytes that arrive in pieces, and of the readers and the
//! writer of a ring buffer.

use std::time::Duration;

use pfs_measure::{
    clock,
    stamp::{Checker, Chunk, Seen},
};

use super::{
    Address, Peer, Receive, Receiver, Sender, Transmit, baseline,
    connection::{Fixed, Found, Frame, Parse},
    mqtt, nats, resp,
};
use crate::job::{Job, Load, WRITER};

const LEN: usize = 300;

/// Gives the parser longer and longer prefixes of the bytes until it returns the first item.
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

/// Returns the chunks in these bytes, and the answers.
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
    (0..3).map(|counter| Chunk::new(WRITER, LEN).stamped(counter, 0).to_vec()).collect()
}

/// Frames each chunk with this head and tail.
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
    let entry = |chunk: &Vec<u8>| {
        [b"*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\nd\r\n$300\r\n", &chunk[..], b"\r\n"].concat()
    };
    let entries: Vec<u8> = three().iter().flat_map(entry).collect();
    let bytes = [b"*1\r\n*2\r\n$1\r\ns\r\n*3\r\n", &entries[..]].concat();
    let (chunks, answer) = chunks(resp::Entries::asking_for("s", 9), &bytes);
    assert_eq!(chunks, three());
    let next = "*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$1\r\n9\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\ns\r\n$3\r\n7-1\r\n";
    assert_eq!(String::from_utf8_lossy(&answer), next);
}

#[test]
fn the_entries_of_one_of_several_streams_are_asked_for_by_its_name() {
    let entry =
        [b"*2\r\n$3\r\n7-1\r\n*2\r\n$1\r\nd\r\n$300\r\n", &three()[0][..], b"\r\n"].concat();
    let bytes = [b"*1\r\n*2\r\n$6\r\njob-17\r\n*1\r\n", &entry[..]].concat();
    let (chunks, answer) = chunks(resp::Entries::asking_for("job-17", 9), &bytes);
    assert_eq!(chunks, three()[..1]);
    let next = "*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$1\r\n9\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$6\r\njob-17\r\n$3\r\n7-1\r\n";
    assert_eq!(String::from_utf8_lossy(&answer), next);
}

#[test]
fn every_created_stream_has_an_answer() {
    let count = |chunks: (Vec<Vec<u8>>, Vec<u8>)| (chunks.0.len(), chunks.1);
    assert_eq!(count(chunks(resp::Added, b"$3\r\n7-0\r\n$3\r\n7-1\r\n")), (2, vec![]));
    assert_eq!(count(chunks(mqtt::Acks, b"\x40\x02\0\x01\x40\x02\0\x02")), (2, vec![]));
    let json = b"MSG s 1  27\r\n{\"stream\":\"job-1\", \"seq\":1}\r\n";
    assert_eq!(count(chunks(nats::Answers, &json.repeat(2))), (2, vec![]));
}

#[test]
fn names_come_page_by_page_up_to_an_empty_one() {
    let bytes =
        b"*2\r\n$2\r\n17\r\n*2\r\n$5\r\njob-1\r\n$5\r\njob-2\r\n*2\r\n$1\r\n0\r\n*1\r\n$5\r\njob-3\r\n";
    let (mut parse, mut left, mut names, mut asked) =
        (resp::Names::default(), &bytes[..], Vec::new(), Vec::new());
    while names.last().is_none_or(|name: &Vec<u8>| !name.is_empty()) {
        let (found, answer) = first(&mut parse, left);
        asked.extend(answer);
        let next = match found {
            Found::Chunk { at, len, next } => {
                names.push(left[at..at + len].to_vec());
                next
            }
            Found::Other(next) => next,
            Found::Partial => unreachable!("not returned"),
        };
        left = &left[next..];
    }
    assert_eq!(names, [&b"job-1"[..], b"job-2", b"job-3", b""]);
    assert_eq!(asked, b"*4\r\n$4\r\nSCAN\r\n$2\r\n17\r\n$5\r\nCOUNT\r\n$4\r\n1000\r\n");
}

#[test]
fn retained_messages_of_mosquitto_end_with_an_empty_chunk() {
    let message = b"\x31\x09\0\x05job-1hi";
    let bytes = [b"\x90\x03\0\x01\0", &message[..], message, b"\xd0\0"].concat();
    let (messages, answer) = chunks(mqtt::Retained, &bytes);
    assert_eq!(messages, [&message[2..], &message[2..], b""]);
    assert_eq!(answer, b"");
}

#[test]
fn an_error_of_jetstream_is_not_taken_for_an_answer() {
    let error = b"MSG s 1 43\r\n{\"type\":\"x\",\"error\":{\"code\":400,\"err_c\":1}}\r\n";
    assert!(nats::Answers.parse(error, &mut Vec::new()).is_err());
}

#[test]
fn an_error_reply_is_not_taken_for_a_chunk() {
    let error = b"-ERR max number of clients reached, so there is nothing for you to read here\r\n";
    let mut answer = Vec::new();
    assert!(resp::Messages.parse(error, &mut answer).is_err());
    assert!(resp::Entries::asking_for("s", 1).parse(error, &mut answer).is_err());
    assert!(nats::Messages.parse(error, &mut answer).is_err());
    assert!(resp::Added.parse(error, &mut answer).is_err());
    assert!(resp::Names::default().parse(error, &mut answer).is_err());
    for packet in [b"\xe0\0", b"\x30\0"] {
        assert!(mqtt::Acks.parse(packet, &mut answer).is_err());
        assert!(mqtt::Retained.parse(packet, &mut answer).is_err());
    }
    assert!(mqtt::Packets.parse(b"\xe0\0", &mut answer).is_err());
}

/// Job whose readers and writer are threads of this process.
fn job_of_a_ring(dir: &std::path::Path, readers: usize, window: u64) -> Job {
    Job {
        peer: Peer::Ring,
        address: Address::Writer(dir.to_owned()),
        board: dir.join("board"),
        load: Load { chunk: LEN, window, ..Load::throughput(readers, 0.0) },
        reader: 0,
        writer: WRITER,
        history: false,
        threads: 1,
    }
}

#[test]
fn a_ring_without_a_daemon_loses_nothing_however_small_it_is() {
    const CHUNKS: u64 = 5_000;
    const READERS: usize = 3;
    for batched in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        // Room for a few dozen chunks: the writer waits for its readers hundreds of times.
        let job = job_of_a_ring(dir.path(), READERS, 16 * 1024);
        let mut writer = Sender::connect(&job).expect("a writer");
        let read = |reader| {
            let mut receiver = Receiver::attach(&Job { reader, ..job.clone() }).expect("a reader");
            move || {
                let (mut checker, mut ended) = (Checker::new(WRITER, LEN, true), false);
                while !ended {
                    let mut take = |chunk: &[u8]| ended |= checker.check(chunk) == Ok(Seen::End);
                    assert!(
                        receiver.receive(&mut take).expect("more"),
                        "the end before the mark of it"
                    );
                }
                (checker.received, checker.lost, checker.corrupt)
            }
        };
        let readers: Vec<_> = (0..READERS).map(|reader| std::thread::spawn(read(reader))).collect();
        let mut chunk = Chunk::new(WRITER, LEN);
        for counter in 0..CHUNKS {
            let bytes = chunk.stamped(counter, 0);
            if batched { writer.push(bytes) } else { writer.send(bytes) }.expect("room");
        }
        writer.send(chunk.end(CHUNKS)).and_then(|()| writer.finish()).expect("an end");
        for reader in readers {
            assert_eq!(reader.join().expect("a reader's end"), (CHUNKS, 0, 0));
        }
    }
}

#[test]
fn a_reader_of_a_ring_that_sleeps_is_woken_by_a_single_chunk() {
    let dir = tempfile::tempdir().expect("a folder");
    let job = job_of_a_ring(dir.path(), 1, 1024 * 1024);
    let mut writer = Sender::connect(&job).expect("a writer");
    let mut receiver = Receiver::attach(&job).expect("a reader");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while receiver.receive(&mut |_| tell.send(()).expect("a listener")).is_ok() {}
    });
    let mut chunk = Chunk::new(WRITER, LEN);
    for counter in 0..100 {
        let patience = clock::after(Duration::from_secs(10));
        // The reader announces that it is going to sleep.
        while std::fs::read(dir.path().join("asleep")).expect("a word") == [0; 8] {
            assert!(clock::now() < patience, "the reader goes to sleep");
            std::thread::sleep(Duration::from_millis(1));
        }
        writer.send(chunk.stamped(counter, 0)).expect("room");
        told.recv_timeout(Duration::from_secs(10)).expect("the reader wakes");
    }
}
