//! Tests of puts, over a real Unix socket.

use bytes::Bytes;
use pfs_proto::{
    CreateOptions, Hello, IfExists, MAX_PUT, PutOptions, Reply, Request, WriteOptions,
};

use super::{
    client::Socket,
    daemon::{Daemon, path, promptly},
};
use crate::{Client, ErrorCode, RequestError, StreamPath};

/// A client, and a daemon that supports puts.
async fn client(socket: &Socket) -> (Client, Daemon) {
    let (client, daemon) = tokio::join!(socket.connect(), async {
        let mut daemon = socket.accept().await;
        let Some(Request::Hello(hello)) = daemon.request().await else {
            panic!("the request is not a hello")
        };
        assert!(hello.can_put(), "the client does not announce puts");
        daemon.send(&Reply::Hello(Hello { capabilities: Hello::PUT, ..Hello::OURS })).await;
        daemon
    });
    (client.unwrap(), daemon)
}

fn done(offset: u64) -> Reply {
    Reply::Put { created: true, offset }
}

fn refusal() -> Reply {
    Reply::Error { code: ErrorCode::Closed, message: "closed".into() }
}

#[tokio::test]
async fn a_put_is_one_request_and_the_connection_survives_success_and_failure() {
    let socket = Socket::new();
    let (client, mut daemon) = client(&socket).await;
    let options = PutOptions::default().close(true);
    for reply in [done(5), refusal(), done(5)] {
        let (put, ()) = promptly(async {
            tokio::join!(client.put(path(), "hello", &options), async {
                let put = Request::Put(path(), options.clone(), Bytes::from_static(b"hello"));
                assert_eq!(daemon.request().await, Some(put));
                daemon.send(&reply).await;
            })
        })
        .await;
        match (put, reply) {
            (Ok(put), Reply::Put { .. }) => assert_eq!((put.created, put.offset), (true, 5)),
            (Err(RequestError::Daemon { code: ErrorCode::Closed, .. }), Reply::Error { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn puts_are_pipelined_and_each_has_its_own_result() {
    const PUTS: u64 = 1000;
    let socket = Socket::new();
    let (client, mut daemon) = client(&socket).await;
    let puts = (0..PUTS).map(|number| (path(), number.to_string()));
    let options = PutOptions::default();
    let serving = async {
        let mut served = 0;
        while served < PUTS {
            // Reply only after the whole batch has arrived. A client that waited for each reply
            // would be stuck.
            let mut replies = Vec::new();
            let batch = if served == 0 { 100 } else { 1 };
            while replies.len() < batch {
                let Some(Request::Put(_, _, chunk)) = daemon.request().await else {
                    panic!("the request is not a put")
                };
                assert_eq!(chunk, served.to_string());
                replies.push(if served == 7 { refusal() } else { done(served) });
                served += 1;
            }
            for reply in &replies {
                daemon.send(reply).await;
            }
        }
    };
    let (results, ()) =
        promptly(async { tokio::join!(client.put_all(puts, &options), serving) }).await;
    let results = results.unwrap();
    assert_eq!(results.len() as u64, PUTS);
    for (number, result) in results.into_iter().enumerate() {
        match result {
            Ok(put) => assert_eq!(put.offset, number as u64),
            Err(error) => assert_eq!((error.code(), number), (Some(ErrorCode::Closed), 7)),
        }
    }
}

#[tokio::test]
async fn puts_complete_even_if_their_replies_fill_the_socket() {
    const PUTS: usize = 2000;
    let socket = Socket::new();
    let (client, mut daemon) = client(&socket).await;
    let puts = (0..PUTS).map(|_| (path(), "x"));
    let options = PutOptions::default();
    let serving = async {
        // The replies together exceed the socket buffers of both directions.
        let message = "x".repeat(u16::MAX.into());
        for _ in 0..PUTS {
            assert!(matches!(daemon.request().await, Some(Request::Put(..))));
            daemon.send(&Reply::Error { code: ErrorCode::Limit, message: message.clone() }).await;
        }
    };
    let (results, ()) =
        promptly(async { tokio::join!(client.put_all(puts, &options), serving) }).await;
    assert!(results.unwrap().iter().all(Result::is_err));
}

#[tokio::test]
async fn a_daemon_that_goes_away_during_puts_is_reported_as_lost() {
    let socket = Socket::new();
    let (client, mut daemon) = client(&socket).await;
    let serving = async move {
        daemon.request().await;
        daemon.send(&done(1)).await;
    };
    let options = PutOptions::default();
    let puts = [(path(), "x"), (path(), "y")];
    let (results, ()) =
        promptly(async { tokio::join!(client.put_all(puts, &options), serving) }).await;
    assert!(matches!(results, Err(RequestError::Lost(_))), "{results:?}");
}

/// Plays a daemon that does not know puts, until the writer has finished. Returns the requests that
/// the daemon received.
async fn put_in_steps(
    socket: &Socket,
    daemon: &mut Daemon,
    created: bool,
    max_chunk: u64,
) -> Vec<Request> {
    let mut requests = vec![daemon.request().await.unwrap()];
    daemon
        .send(&match created {
            true => Reply::Done,
            false => Reply::Error { code: ErrorCode::AlreadyExists, message: String::new() },
        })
        .await;
    requests.push(daemon.request().await.unwrap());
    daemon.send(&Reply::Writing { max_chunk }).await;
    loop {
        let request = daemon.request().await.unwrap();
        let last = matches!(request, Request::Finish { .. } | Request::Withdraw);
        if let Request::Append(bytes) = &request {
            daemon
                .send(&Reply::Ack { chunks: 1, offset: 10 + bytes.len() as u64, readers: 0 })
                .await;
        }
        requests.push(request);
        if last {
            daemon.send(&Reply::Done).await;
            break;
        }
    }
    if created && matches!(requests.last(), Some(Request::Withdraw)) {
        let mut daemon = socket.accept().await;
        daemon.welcome().await;
        requests.push(daemon.request().await.unwrap());
        daemon.send(&Reply::Done).await;
    }
    requests
}

#[tokio::test]
async fn a_daemon_without_puts_gets_a_create_request_and_a_writer() {
    let create = |if_exists| Request::Create(path(), CreateOptions::default().if_exists(if_exists));
    let open = Request::OpenWriter(path(), WriteOptions::default());
    let append = Request::Append(Bytes::from_static(b"hello"));
    for (if_exists, created) in [
        (IfExists::Keep, true),
        (IfExists::Keep, false),
        (IfExists::Fail, true),
        (IfExists::Replace, true),
    ] {
        let socket = Socket::new();
        let (client, mut daemon) = socket.client().await;
        let options = PutOptions::default().if_exists(if_exists).close(true);
        let (put, requests) = promptly(async {
            tokio::join!(
                client.put(path(), "hello", &options),
                put_in_steps(&socket, &mut daemon, created, 100)
            )
        })
        .await;
        let put = put.unwrap();
        assert_eq!((put.created, put.offset), (created, 15));
        let if_exists = if if_exists == IfExists::Keep { IfExists::Fail } else { if_exists };
        let expected =
            [create(if_exists), open.clone(), append.clone(), Request::Finish { close: true }];
        assert_eq!(requests, expected);
    }
}

#[tokio::test]
async fn a_chunk_refused_by_a_daemon_without_puts_leaves_no_stream_created_for_it() {
    for created in [true, false] {
        let socket = Socket::new();
        let (client, mut daemon) = socket.client().await;
        let options = PutOptions::default();
        let (put, requests) = promptly(async {
            tokio::join!(
                client.put(path(), "hello", &options),
                put_in_steps(&socket, &mut daemon, created, 4)
            )
        })
        .await;
        assert_eq!(put.unwrap_err().code(), Some(ErrorCode::TooLarge));
        let last = if created { Request::Remove(path()) } else { Request::Withdraw };
        assert_eq!(requests.last(), Some(&last));
    }
}

#[tokio::test]
async fn a_chunk_that_is_too_large_for_one_request_goes_through_a_writer() {
    let socket = Socket::new();
    let (client, mut daemon) = client(&socket).await;
    assert_eq!(client.max_put(), MAX_PUT);
    let chunk = vec![7; MAX_PUT + 1];
    let options = PutOptions::default();
    let (put, requests) = promptly(async {
        tokio::join!(
            client.put(path(), &chunk, &options),
            put_in_steps(&socket, &mut daemon, true, 1024 * 1024 * 1024)
        )
    })
    .await;
    assert_eq!(put.unwrap().offset, 10 + chunk.len() as u64);
    assert!(matches!(
        &requests[..],
        [Request::Create(..), Request::OpenWriter(..), Request::Append(_), _]
    ));
}

#[tokio::test]
async fn an_invalid_stream_path_fails_without_a_request() {
    let socket = Socket::new();
    let (client, _daemon) = client(&socket).await;
    let put = promptly(client.put("no path", "x", &PutOptions::default())).await;
    assert!(matches!(put, Err(RequestError::Path(_))), "{put:?}");
    let nothing: [(StreamPath, &str); 0] = [];
    assert_eq!(promptly(client.put_all(nothing, &PutOptions::default())).await.unwrap().len(), 0);
}
