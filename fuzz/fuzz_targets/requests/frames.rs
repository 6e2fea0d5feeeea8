//! Generates request bodies for `/v1/frames`: messages, most of which are meaningful where they
//! are.

use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use pfs_proto::{
    CreateOptions, Hello, Hop, IfExists, Join, PutOptions, ReadOptions, Request as Message,
    SlowPolicy, Start, StreamPath, Until, WriteOptions,
};

use crate::request::{Body, finish_body, stream, text};

/// The messages of a frames client.
pub fn body(u: &mut Unstructured<'_>) -> Result<Body> {
    let mut pieces = Vec::new();
    if u.int_in_range(0..=31)? < 15 {
        let capabilities = u.int_in_range(0..=15)?;
        pieces.push(encoded_message(&Message::Hello(Hello { capabilities, ..Hello::OURS })));
    }
    for _ in 0..u.int_in_range(0..=5)? {
        if u.int_in_range(0..=31)? == 31 {
            pieces.push(text(u)?.into());
            continue;
        }
        let Ok(path) = String::from_utf8_lossy(&stream(u)?).parse() else { continue };
        pieces.push(encoded_message(&message(u, path)?));
    }
    finish_body(u, pieces)
}

fn encoded_message(message: &Message) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    bytes.to_vec()
}

fn create_options(u: &mut Unstructured<'_>) -> Result<CreateOptions> {
    Ok(CreateOptions {
        ring_buffer_size: u.arbitrary::<Option<u16>>()?.map(Into::into),
        channel_buffer_size: u.arbitrary::<Option<u16>>()?.map(Into::into),
        ttl: u.arbitrary::<Option<u8>>()?.map(|seconds| Duration::from_secs(seconds.into())),
        content_type: u.arbitrary::<Option<&str>>()?.map(str::to_owned),
        if_exists: *u.choose(&[IfExists::Fail, IfExists::Keep, IfExists::Replace])?,
        reserve: u.arbitrary()?,
    })
}

fn message(u: &mut Unstructured<'_>, path: StreamPath) -> Result<Message> {
    Ok(match u.int_in_range(0..=30)? {
        0 => Message::Create(path, create_options(u)?),
        24..=25 => {
            let options = PutOptions { create: create_options(u)?, close: u.arbitrary()? };
            Message::Put(path, options, text(u)?.to_vec().into())
        }
        1..=4 => Message::OpenWriter(
            path,
            WriteOptions {
                wait_readers: u.arbitrary::<u8>()?.saturating_sub(252).into(),
                replace: u.arbitrary()?,
                header_bytes: u.arbitrary::<u8>()?.into(),
            },
        ),
        5..=7 => Message::OpenReader(
            path,
            ReadOptions {
                start: match u.int_in_range(0..=4)? {
                    0 => Start::Oldest,
                    1 => Start::New,
                    2 => Start::Tail(u.arbitrary::<u16>()?.into()),
                    3 => Start::Since(Duration::from_micros(u.arbitrary()?)),
                    _ => Start::Offset(u.arbitrary::<u16>()?.into()),
                },
                policy: *u.choose(&[
                    SlowPolicy::Drop,
                    SlowPolicy::Block,
                    SlowPolicy::Disconnect,
                ])?,
                until: *u.choose(&[Until::Closed, Until::CaughtUp, Until::WritersGone])?,
                wait: u.arbitrary()?,
                join: *u.choose(&[Join::Raw, Join::Auto, Join::Sync])?,
            },
        ),
        8 => Message::List(path.as_str().to_owned()),
        9 => Message::Stat(path),
        10 => Message::Close(path),
        11 => Message::CloseFailed(path),
        12 => Message::Remove(path),
        13 => Message::Document(path),
        14 => Message::Info,
        30 => Message::Mounts,
        15 => Message::Watch(path),
        16..=18 => Message::Append(text(u)?.to_owned().into()),
        19 => Message::AppendPart(vec![b'p'; u.arbitrary::<u16>()?.into()].into()),
        20 => Message::Finish { close: u.arbitrary()? },
        21 => Message::Fail { close: u.arbitrary()? },
        22 => Message::Withdraw,
        27 => Message::OpenLink(path, ReadOptions::default().until(Until::CaughtUp)),
        29 => Message::ListPage {
            path: path.mount().to_owned(),
            after: String::from_utf8_lossy(text(u)?).into_owned(),
            most: u.arbitrary()?,
        },
        28 => Message::Trace {
            mount: path.mount().to_owned(),
            hops: vec![Hop {
                daemon: u.arbitrary()?,
                mount: String::from_utf8_lossy(text(u)?).into_owned(),
            }],
        },
        26 => Message::MarkSync { chunk: u.arbitrary::<u8>()?.into() },
        _ => {
            const NEWS: [Message; 4] =
                [Message::Heartbeat, Message::MadeRoom, Message::CannotMap, Message::Follow];
            u.choose(&NEWS)?.clone()
        }
    })
}
