//! Reload of tokens and limits while the daemon serves.

use std::time::Duration;

use pfs_http::{
    TokenChanges,
    settings::{Limits, Settings},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Client, S, Served, setup};

const KEPT: &str = "kept-kept-kept-kept";
const GONE: &str = "gone-gone-gone-gone";
const NEW: &str = "new-new-new-new-new";

/// Token file, and settings that name it.
struct TokenFile {
    _folder: TempDir,
    settings: Settings,
}

impl TokenFile {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            Settings { token_file: Some(folder.path().join("token")), ..Settings::default() };
        let file = Self { _folder: folder, settings };
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(self.settings.token_file.as_ref().unwrap(), text).unwrap();
    }
}

async fn ask(served: &Served, token: &str, method: &str, path: &str, accept: &str) -> Client {
    let mut client = served.connect();
    let authorization = format!("Bearer {token}");
    client
        .request(method, path, &[("authorization", &authorization), ("accept", accept)], None)
        .await;
    client
}

async fn status(served: &Served, token: &str) -> u16 {
    ask(served, token, "GET", "/streamfs/", "*/*").await.head().await.unwrap().status
}

/// Clients with one token that are in the middle of a request.
struct Clients {
    raw: Client,
    events: Client,
    poll: Client,
    upload: Client,
}

impl Clients {
    async fn begin(served: &Served, token: &str) -> Self {
        let mut raw = ask(served, token, "GET", S, "*/*").await;
        raw.head().await.unwrap().has(200);
        let mut events = ask(served, token, "GET", S, "text/event-stream").await;
        events.head().await.unwrap().has(200);
        assert!(events.piece().await.unwrap().starts_with(b"id: "));
        let poll = ask(served, token, "GET", "/v1/stream/s?offset=now&live=long-poll", "*/*").await;
        let mut upload = served.connect();
        upload.begin("PUT", S, &[("authorization", &format!("Bearer {token}"))]).await;
        // Wait until all requests have begun.
        sleep(Duration::from_millis(1)).await;
        Self { raw, events, poll, upload }
    }

    /// Asserts that all requests are cut off, and that no client sees a proper end.
    async fn are_cut_off(mut self) {
        assert_eq!(self.raw.piece().await, None, "the response breaks");
        let told = String::from_utf8(self.events.piece().await.unwrap()).unwrap();
        assert!(told.starts_with("event: failure\ndata: {\"code\":\"denied\""), "{told}");
        assert!(told.contains("tokens were reloaded: this token may not read"), "{told}");
        assert_eq!(self.events.piece().await, None);
        let message = self.poll.response().await.has(403).refuses("denied");
        assert!(message.contains("may not read"), "{message}");
        let message = self.upload.response().await.has(403).refuses("denied");
        assert!(message.contains("may not write"), "{message}");
    }

    /// Asserts that all requests go on.
    async fn go_on(mut self) {
        self.upload.chunk(b"more").await;
        assert_eq!(self.raw.piece().await.unwrap(), b"more");
        let event = String::from_utf8(self.events.piece().await.unwrap()).unwrap();
        assert!(event.ends_with("data: more\n\n"), "{event}");
        self.poll.response().await.has(200);
        self.upload.end_chunks().await;
        self.upload.response().await.is_success();
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_removed_token_are_cut_off_and_all_others_go_on() {
    let file = TokenFile::new(&format!("{KEPT}\n{GONE}\n"));
    let served = Served::with_settings(&file.settings);
    let stream = served.create(4096);
    let (kept, gone) = (Clients::begin(&served, KEPT).await, Clients::begin(&served, GONE).await);
    file.write(&format!("{NEW} read\n{KEPT}\n"));
    let changes = served.server.reload(setup(&file.settings));
    assert_eq!(changes, TokenChanges { added: 1, changed: 0, removed: 1 });
    gone.are_cut_off().await;
    assert_eq!((stream.stat().writers_died, stream.readers()), (1, 3));
    for (token, expected) in [(KEPT, 200), (NEW, 200), (GONE, 401)] {
        assert_eq!(status(&served, token).await, expected, "{token}");
    }
    kept.go_on().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_granted_less_keeps_the_requests_that_it_still_permits() {
    let file = TokenFile::new(&format!("{KEPT}\n"));
    let served = Served::with_settings(&file.settings);
    served.create(4096);
    let mut clients = Clients::begin(&served, KEPT).await;
    file.write(&format!("{KEPT} read /streamfs/s\n"));
    let changes = served.server.reload(setup(&file.settings));
    assert_eq!(changes, TokenChanges { added: 0, changed: 1, removed: 0 });
    clients.upload.response().await.has(403);
    let stream = served.daemon.registry().get(S).unwrap();
    stream.writer().unwrap().try_append(b"more").unwrap();
    assert_eq!(clients.raw.piece().await.unwrap(), b"more");
    clients.poll.response().await.has(200);
    assert_eq!(status(&served, KEPT).await, 403);
    // A permission that is granted again is usable again.
    file.write(&format!("{KEPT} read,write /\n"));
    served.server.reload(setup(&file.settings));
    assert_eq!(status(&served, KEPT).await, 200);
    // A request that has outlived several reloads still belongs to its token.
    file.write(&format!("{NEW}\n"));
    served.server.reload(setup(&file.settings));
    assert_eq!(clients.raw.piece().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_first_tokens_cut_off_requests_without_one_and_removing_all_tokens_cuts_off_none() {
    let file = TokenFile::new(&format!("{KEPT}\n{GONE}\n"));
    let served = Served::with_settings(&Settings::default());
    served.create(4096);
    let open = Clients::begin(&served, "not-needed").await;
    let changes = served.server.reload(setup(&Settings::default()));
    assert_eq!(changes, TokenChanges::default());
    let again = Clients::begin(&served, "not-needed").await;
    assert_eq!(served.server.reload(setup(&file.settings)).added, 2);
    open.are_cut_off().await;
    again.are_cut_off().await;
    assert_eq!(status(&served, "not-needed").await, 401);
    let guarded = Clients::begin(&served, KEPT).await;
    assert_eq!(served.server.reload(setup(&Settings::default())).removed, 2);
    assert_eq!(status(&served, "not-needed").await, 200);
    guarded.go_on().await;
}

/// Time from now until the server hangs up.
async fn hang_up(client: &mut Client) -> Duration {
    let begun = Instant::now();
    client.until_hung_up().await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn new_time_limits_apply_to_what_a_client_does_next() {
    let seconds = Duration::from_secs;
    let limits = |factor: u64| Limits {
        header_time: seconds(factor),
        idle_time: seconds(3 * factor),
        body_stall_time: seconds(5 * factor),
        long_poll_time: seconds(7 * factor),
        ..Limits::default()
    };
    let served = Served::with(limits(10));
    served.create(4096);
    let (mut idle, mut half, mut stalls, mut polls) =
        (served.connect(), served.connect(), served.connect(), served.connect());
    for client in [&mut idle, &mut half, &mut stalls, &mut polls] {
        client.request("GET", "/healthz", &[], None).await;
        client.response().await.has(200);
    }
    served.server.reload(setup(&Settings { limits: limits(1000), ..Settings::default() }));
    half.send(b"GET /heal").await;
    stalls.request("PUT", "/streamfs/other", &[("content-length", "10")], None).await;
    stalls.send(b"half").await;
    polls.request("GET", "/v1/stream/s?offset=now&live=long-poll", &[], None).await;
    // This connection has been idle since before the reload.
    assert_eq!(hang_up(&mut idle).await, seconds(30));
    let begun = Instant::now();
    half.response().await.has(408).refuses("too_slow");
    assert_eq!(begun.elapsed(), seconds(1000 - 30));
    let message = stalls.response().await.has(408).refuses("body_stalled");
    assert!(message.contains("no part of the body arrived for 5000 seconds"), "{message}");
    assert_eq!(begun.elapsed(), seconds(5000 - 30));
    polls.response().await.has(204);
    assert_eq!(begun.elapsed(), seconds(7000 - 30));
    assert_eq!(hang_up(&mut polls).await, seconds(3000), "the idle time restarts at the reload");
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_on_header_sizes_applies_at_once_and_a_higher_limit_only_to_new_connections()
{
    let limits = |max_header_size| Settings {
        limits: Limits { max_header_size, ..Limits::default() },
        ..Settings::default()
    };
    let served = Served::with_settings(&limits(8 * 1024));
    let asked = async |client: &mut Client, size: usize| {
        client.request("GET", "/healthz", &[("x-large", &"x".repeat(size))], None).await;
        client.response().await.status
    };
    let mut old = served.connect();
    assert_eq!(asked(&mut old, 7000).await, 200);
    served.server.reload(setup(&limits(4 * 1024)));
    assert_eq!(asked(&mut old, 7000).await, 431);
    assert_eq!(asked(&mut old, 3000).await, 200);
    served.server.reload(setup(&limits(256 * 1024)));
    assert_eq!(asked(&mut served.connect(), 200_000).await, 200);
    assert_eq!(asked(&mut old, 200_000).await, 431, "this connection was made for smaller headers");
}

#[tokio::test(start_paused = true)]
async fn a_new_limit_on_connections_per_address_applies_to_the_next_connection() {
    let limits = |max_connections_per_address| Settings {
        limits: Limits { max_connections_per_address, ..Limits::default() },
        ..Settings::default()
    };
    let served = Served::with_settings(&limits(2));
    let asked = async |client: &mut Client| {
        client.request("GET", "/streamfs/", &[], None).await;
        client.response().await.status
    };
    let (mut one, mut two) = (served.connect(), served.connect());
    assert_eq!((asked(&mut one).await, asked(&mut two).await), (200, 200));
    assert_eq!(asked(&mut served.connect()).await, 429);
    served.server.reload(setup(&limits(1)));
    assert_eq!(
        (asked(&mut one).await, asked(&mut two).await),
        (200, 200),
        "they are there already"
    );
    served.server.reload(setup(&limits(3)));
    let mut three = served.connect();
    assert_eq!(asked(&mut three).await, 200);
    assert_eq!(asked(&mut served.connect()).await, 429);
}
