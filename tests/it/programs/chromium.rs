//! Chromium as a reader: a page of another origin with a `<video>` or an `EventSource`, which
//! reports its events to the test.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    time::Instant,
};

use harness::{Daemon, Pfs, Running, deadline};

use super::{
    S,
    film::{fragmented_mp4, ogg, webm},
};

/// Browser with one page, and the reports of the page.
struct Browser {
    running: Running,
    reports: Receiver<String>,
}

/// Web server of the page: serves the page to every client and receives the reports.
struct Site {
    listener: TcpListener,
    address: SocketAddr,
}

impl Site {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// Starts a daemon that allows this site's origin.
    #[track_caller]
    fn daemon(&self) -> Daemon {
        Daemon::with_http_config(&format!(
            "[http]\nallowed_origins = [\"http://{}\"]\n",
            self.address
        ))
    }

    /// Opens a page that runs this script. In the script, `report(text)` sends a report and `URL`
    /// is the URL of the stream.
    #[track_caller]
    fn open(self, daemon: &Daemon, script: &str) -> Browser {
        // One request at a time, so that the reports arrive in order.
        let page = format!(
            "<!doctype html><link rel=icon href=data:,><script>
            let sent = Promise.resolve();
            const report = text => sent = sent.then(() => fetch('/', {{method: 'POST', body: text}}));
            onerror = message => {{ report(message) }};
            const URL = '{}';
            {script}</script>",
            daemon.url(S)
        );
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for connection in self.listener.incoming() {
                let (page, sender) = (page.clone(), sender.clone());
                std::thread::spawn(move || served(connection.unwrap(), &page, &sender));
            }
        });
        // The sandbox protects against foreign pages, and may need privileges that a container does
        // not have.
        let flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ];
        let alone =
            ["--no-proxy-server", "--disable-background-networking", "--disable-component-update"];
        let plays = "--autoplay-policy=no-user-gesture-required";
        let profile = format!("--user-data-dir={}", daemon.dir().join("chromium").display());
        let browser = Pfs::new("chromium").args(flags).args(alone).args([plays, &profile]);
        let running =
            browser.env("HOME", daemon.dir()).arg(format!("http://{}/", self.address)).spawn();
        Browser { running, reports }
    }
}

/// Answers the requests of one connection: serves the page, or forwards a report.
fn served(connection: TcpStream, page: &str, reports: &Sender<String>) {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if first.is_empty() {
                first = line;
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if connection.read_exact(&mut body).is_err() {
            return;
        }
        let answer = if first.starts_with("post") {
            // Fails when the test is over.
            let _ = reports.send(String::from_utf8(body).unwrap());
            ""
        } else {
            page
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if connection.get_mut().write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

impl Browser {
    /// Waits for the next report.
    #[track_caller]
    fn next(&mut self) -> String {
        match self.reports.recv_timeout(deadline()) {
            Ok(report) => report,
            Err(error) => panic!("no report: {error}; stderr: {}", self.running.stderr()),
        }
    }

    /// Waits for a report that `holds` accepts, and returns it.
    #[track_caller]
    fn until(&mut self, holds: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        let mut others = Vec::new();
        loop {
            let report = self.next();
            if holds(&report) {
                return report;
            }
            others.push(report);
            assert!(begin.elapsed() < deadline(), "none of these reports: {others:?}");
        }
    }
}

const VIDEO: &str = "
    const video = document.createElement('video');
    video.crossOrigin = 'anonymous';
    video.muted = true;
    for (const name of ['timeupdate', 'waiting', 'ended', 'error'])
        video.addEventListener(name, () => report(`${name} ${video.currentTime}`));
    video.src = URL;
    video.play();
";

/// Returns the position in the film, in seconds, from a report of a video.
fn position(report: &str) -> f64 {
    report.split_once(' ').unwrap_or_else(|| panic!("{report}")).1.parse().unwrap()
}

/// Starts a video that has played everything so far: half a film.
#[track_caller]
fn half_played() -> (Daemon, Browser, &'static [u8]) {
    let site = Site::new();
    let daemon = site.daemon();
    let (first, second) = webm().split_at(webm().len() / 2);
    daemon.append(S, first);
    let mut browser = site.open(&daemon, VIDEO);
    browser.until(|report| {
        assert!(!report.starts_with("e"), "{report}");
        report.starts_with("waiting") && position(report) > 1.0
    });
    (daemon, browser, second)
}

#[test]
#[ignore = "needs chromium and ffmpeg: scripts/programs"]
fn a_video_plays_live_bytes_and_ends_at_the_end_of_its_stream() {
    let (daemon, mut browser, second) = half_played();
    daemon.append(S, second);
    let later = browser.until(|report| !report.starts_with("timeupdate") || position(report) > 2.5);
    assert!(later.starts_with("timeupdate"), "{later}");
    daemon.close(S);
    let last = browser.until(|report| report.starts_with("e"));
    assert!(last.starts_with("ended") && position(&last) > 3.9, "{last}");
}

#[test]
#[ignore = "needs chromium and ffmpeg: scripts/programs"]
fn a_video_does_not_end_but_fails_where_its_stream_is_removed_or_fails() {
    for fails in [true, false] {
        let (daemon, mut browser, _) = half_played();
        if fails {
            daemon.pfs(["close", "--failed", S]).run().exits(0);
        } else {
            daemon.remove(S);
        }
        let last = browser.until(|report| report.starts_with("e"));
        assert!(last.starts_with("error"), "{last}; log: {}", daemon.log());
    }
}

const LATE: &str = "
    const video = document.createElement('video');
    video.crossOrigin = 'anonymous';
    video.muted = true;
    const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
    for (const name of ['timeupdate', 'ended', 'error'])
        video.addEventListener(name, () => report(`${name} ${video.currentTime} ${frames()}`));
    video.src = URL;
    video.play();
";

#[test]
#[ignore = "needs chromium and ffmpeg: scripts/programs"]
fn a_video_that_joins_late_plays_from_the_plain_url_to_the_end() {
    for (name, film, has_picture) in
        [("WebM", webm(), true), ("MP4", fragmented_mp4(), true), ("Ogg", ogg(), false)]
    {
        let site = Site::new();
        let daemon = site.daemon();
        // The ring holds two of the four seconds.
        let ring = film.len() as u64 / 2;
        daemon.create_with_buffers(S, ring, ring);
        let (first, second) = film.split_at(film.len() * 3 / 4);
        for chunk in first.chunks(1000) {
            daemon.append(S, chunk);
        }
        assert!(daemon.stat_number(S, "tail") > 0);
        let mut browser = site.open(&daemon, LATE);
        daemon.has_readers(S, 1);
        for chunk in second.chunks(1000) {
            daemon.append(S, chunk);
        }
        daemon.close(S);
        let last = browser.until(|report| report.starts_with("e"));
        let numbers: Vec<f64> = last.split(' ').skip(1).map(|it| it.parse().unwrap()).collect();
        assert!(last.starts_with("ended") && numbers[0] > 1.0, "{name}: {last}");
        assert!(!has_picture || numbers[1] >= 25.0, "{name}: {last}");
    }
}

const EVENTS: &str = "
    const source = new EventSource(URL);
    source.onopen = () => report('open');
    source.onerror = () => report(source.readyState == EventSource.CLOSED ? 'stopped' : 'interrupted');
    for (const name of ['message', 'removed', 'gap', 'end', 'failure'])
        source.addEventListener(name, event => report(`${name} ${event.lastEventId.split(':')[1]} ${event.data}`));
";

#[test]
#[ignore = "needs chromium: scripts/programs"]
fn an_event_source_gets_each_chunk_comes_back_by_itself_and_stops_after_the_end() {
    let text = |daemon: &Daemon, query: &str, text: &str| {
        daemon.ask(
            "PUT",
            &format!("{S}{query}"),
            [("content-type", "text/plain")],
            text.as_bytes(),
        );
    };
    let site = Site::new();
    let mut daemon = site.daemon();
    text(&daemon, "", "one");
    let mut browser = site.open(&daemon, EVENTS);
    assert_eq!([browser.next(), browser.next()], ["open", "message 3 one"]);
    text(&daemon, "", "two");
    assert_eq!(browser.next(), "message 6 two");

    daemon.kill9();
    assert_eq!(browser.next(), "interrupted");
    daemon.restart();
    // The browser may have tried while there was no daemon.
    browser.until(|report| report != "interrupted");
    assert!(browser.next().starts_with("removed "), "the daemon that it read from is gone");
    text(&daemon, "", "three");
    assert_eq!(browser.next(), "message 5 three");

    text(&daemon, "?replace", "four");
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "message 4 four") {
        told.push(browser.next());
    }
    assert!(told.iter().any(|report| report.starts_with("removed ")), "{told:?}");
    daemon.close(S);
    assert!(browser.next().starts_with("end 4 "));
    assert_eq!(browser.until(|report| report != "interrupted"), "stopped");
}
