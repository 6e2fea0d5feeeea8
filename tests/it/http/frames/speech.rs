//! Invalid frames over HTTP: the client gets an error in frames, and the daemon goes on as before.

use bytes::BytesMut;
use harness::{Daemon, HttpResponse, eventually};
use pfs_proto::{
    Decoder, ErrorCode, Hello, MEDIA_TYPE, ReadOptions, Reply, Request, Until, VERSION,
    WriteOptions,
};

use super::S;

const PLACE: &str = "/v1/frames";
const TYPE: (&str, &str) = ("content-type", MEDIA_TYPE);

fn said(requests: &[Request]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    requests.iter().for_each(|request| request.encode(&mut bytes));
    bytes.to_vec()
}

fn hello() -> Request {
    Request::Hello(Hello::OURS)
}

/// Decodes the replies in the body of a complete response.
#[track_caller]
fn replies(answer: HttpResponse) -> Vec<Reply> {
    let answer = answer.has(200);
    assert!(answer.whole, "the body broke off");
    assert_eq!(answer.header("content-type"), Some(MEDIA_TYPE));
    let mut decoder = Decoder::new();
    decoder.buffer().extend_from_slice(&answer.body);
    let frames = std::iter::from_fn(|| decoder.next_frame().unwrap());
    let replies = frames.map(|frame| Reply::decode(frame).unwrap()).collect();
    assert!(decoder.is_empty());
    replies
}

#[track_caller]
fn refusal(replies: &[Reply]) -> Option<ErrorCode> {
    replies.iter().find_map(|reply| match reply {
        Reply::Error { code, .. } => Some(*code),
        _ => None,
    })
}

#[test]
fn a_request_of_known_length_is_answered_completely_and_its_end_is_not_a_hang_up() {
    let daemon = Daemon::with_http();
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    let read = Request::OpenReader(S.parse().unwrap(), ReadOptions::default());
    let answer = daemon.ask("POST", PLACE, [TYPE], &said(&[hello(), Request::Info, read.clone()]));
    let found = replies(answer);
    assert!(
        matches!(found[..], [
        Reply::Hello(hello),
        Reply::Daemon(_),
        Reply::Reading { start: 0, head: 3, .. },
        Reply::Data(_),
        Reply::End { offset: 3, .. },
    ] if !hello.can_share()),
        "{found:?}"
    );

    // A client that announces the capability to resume is told the identity of the stream.
    let resuming = Request::Hello(Hello { capabilities: u64::MAX, ..Hello::OURS });
    let found = replies(daemon.ask("POST", PLACE, [TYPE], &said(&[resuming, read])));
    let can = |hello: &Hello| hello.can_resume() && !hello.can_share();
    assert!(
        matches!(&found[..2], [Reply::Hello(hello), Reply::Identity { deaths_before: 0, .. }] if can(hello)),
        "{found:?}"
    );
}

#[test]
fn a_connection_is_reused_only_after_a_request_of_known_length() {
    let daemon = Daemon::with_http();
    let mut connection = daemon.http();
    for _ in 0..2 {
        connection.request("POST", PLACE, &[TYPE], Some(&said(&[hello(), Request::Info])));
        let answer = connection.response();
        assert_eq!(answer.header("connection"), None);
        assert!(matches!(replies(answer)[..], [Reply::Hello(_), Reply::Daemon(_)]));
    }
    // A writer's response may end before its request, and the daemon then hangs up.
    connection.begin("POST", PLACE, &[TYPE]);
    let write = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    connection.chunk(&said(&[hello(), write, Request::Finish { close: false }]));
    let answer = connection.response();
    assert_eq!(answer.header("connection"), Some("close"));
    let found = replies(answer);
    assert!(
        matches!(found[..], [Reply::Hello(_), Reply::Writing { .. }, .., Reply::Done]),
        "{found:?}"
    );
}

#[test]
fn a_request_that_opens_no_frame_connection_is_refused_with_a_status() {
    let daemon = Daemon::with_http();
    daemon.ask("POST", PLACE, [], b"x").has(415).refuses("bad_media_type");
    daemon.ask("POST", PLACE, [("content-type", "text/plain")], b"x").has(415);
    daemon.get(PLACE).has(405);
}

#[test]
fn invalid_frames_are_answered_in_frames_and_change_nothing() {
    let mut daemon = Daemon::with_http();
    let newer = Hello { min_version: VERSION + 1, max_version: VERSION + 1, capabilities: 0 };
    let open = Request::OpenWriter(S.parse().unwrap(), WriteOptions::default());
    let finish = Request::Finish { close: false };
    for (bytes, code) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Some(ErrorCode::Protocol)),
        (said(std::slice::from_ref(&open)), Some(ErrorCode::Protocol)),
        (said(&[Request::Hello(newer)]), Some(ErrorCode::Version)),
        (said(&[hello(), finish.clone()]), Some(ErrorCode::Protocol)),
        (said(&[hello(), Request::Stat(S.parse().unwrap())]), Some(ErrorCode::NoSuchStream)),
        (said(&[hello()]), None),
        (Vec::new(), None),
        ([said(&[hello()]), vec![0xff; 5]].concat(), Some(ErrorCode::Protocol)),
    ] {
        let found = replies(daemon.ask("POST", PLACE, [TYPE], &bytes));
        assert_eq!(refusal(&found), code, "{bytes:?}: {found:?}");
    }
    assert!(daemon.streams().is_empty());

    // A writer whose body is complete has sent all its requests.
    let append = Request::Append("all".into());
    let found = replies(daemon.ask(
        "POST",
        PLACE,
        [TYPE],
        &said(&[hello(), open.clone(), append.clone(), finish]),
    ));
    assert!(matches!(found.last(), Some(Reply::Done)), "{found:?}");
    // A writer whose body ends without `Finish` has died.
    daemon.ask("POST", PLACE, [TYPE], &said(&[hello(), open, append]));
    eventually("it is known to be dead", || daemon.stat_number(S, "writers_died") == 1);
    assert_eq!((daemon.head(S), daemon.stat_number(S, "writers_finished")), (6, 1));
    assert!(daemon.runs() && !daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn a_client_that_hangs_up_is_forgotten() {
    let daemon = Daemon::with_http();
    daemon.create(S);
    let (path, waiting) = (S.parse().unwrap(), "/streamfs/never".parse().unwrap());
    let options = ReadOptions { until: Until::Closed, wait: true, ..ReadOptions::default() };
    let requests = [
        Request::OpenReader(path, options),
        Request::OpenReader(waiting, options),
        Request::OpenWriter(
            S.parse().unwrap(),
            WriteOptions { wait_readers: 9, ..WriteOptions::default() },
        ),
    ];
    let clients = requests.map(|request| {
        let mut client = daemon.http();
        client.request("POST", PLACE, &[TYPE], Some(&said(&[hello(), request])));
        assert_eq!(client.head().unwrap().status, 200);
        client
    });
    daemon.has_readers(S, 1);
    drop(clients);
    daemon.has_readers(S, 0);
}
