//! Examples of each command, and the environment variables: the last sections of help and
//! man pages.

/// Examples of `pfs` itself.
pub const PFS: &str = "\
Examples:
  ffmpeg -re -i cam.mp4 -f mpegts - | pfs write --stream /streamfs/cam
      Write a live video.
  pfs cat --stream /streamfs/cam | ffplay -
      Watch the video; any number of readers can.
  PFS_URL=http://camera:4437 pfs cat --stream /streamfs/cam | ffplay -
      Watch the video from another machine.
  pfs help cat
      Show the full help of a command.";

/// Examples of `pfs write`.
pub const WRITE: &str = "\
Examples:
  pfs write --stream --replace --close /streamfs/copy < file
      Send a file and end the stream; this can be repeated.
  pfs write --stream --close /streamfs/log access.log.1 access.log
      Send files one after the other.
  echo data | pfs write /streamfs/notes
      Append one chunk.
  tail -F app.log | pfs write --lines /streamfs/log
      Send a log; several writers can append, and no line is split.
  make 2>&1 | pfs write --lines --tee /streamfs/build
      Send the output of a build, and print it, too.
  pfs write --stream --replace --close /streamfs/dump -- pg_dump shop
      Send the output of a command; if the command fails, readers are told.";

/// Examples of `pfs cat`.
pub const CAT: &str = "\
Examples:
  pfs cat --stream /streamfs/cam > recording.ts
      Record until the stream is closed.
  pfs cat --stream --new /streamfs/log | grep ERROR
      Follow from now on.
  pfs cat --stream --since 10m --until caught-up /streamfs/log
      Print the last ten minutes and end.
  pfs cat --stream --slow block /streamfs/copy | sha256sum
      Make writers wait for this reader, so that no byte is lost.
  pfs cat /streamfs/README
      Print the document that the daemon serves.";

/// Examples of `pfs create`.
pub const CREATE: &str = "\
Examples:
  pfs create --exist-ok --ring-buffer-size 64MB /streamfs/vod
      Keep 64 MiB of history for readers that join late; accept an existing stream.
  pfs create --reserve --ring-buffer-size 1GB /streamfs/dump
      Fail now instead of keeping less history if memory runs short later.
  pfs create --replace /streamfs/copy
      Start with a new stream before the first reader attaches.
  pfs create --channel-buffer-size 256KB --ring-buffer-size 512KB --content-type video/mp2t /streamfs/cam
      Low latency for live video.";

/// Examples of `pfs close`.
pub const CLOSE: &str = "\
Examples:
  pfs close /streamfs/cam
      Let every reader reach the end of the stream.
  pfs close --failed /streamfs/cam
      Tell every reader that the data is incomplete.";

/// Examples of `pfs rm`.
pub const RM: &str = "\
Examples:
  pfs rm /streamfs/cam /streamfs/log
      Remove two streams.
  pfs rm -rf /streamfs/tests
      Remove every stream at or below /streamfs/tests, if any.";

/// Examples of `pfs ls`.
pub const LS: &str = "\
Examples:
  pfs ls -l /streamfs
      List all streams of a mount with their stats.
  pfs ls -0 /streamfs/tests | xargs -0r pfs close
      Close some streams, whatever characters their names contain.
  pfs ls --json | jq -r 'select(.readers == 0) | .path'
      Find streams that nobody reads.";

/// Examples of `pfs stat`.
pub const STAT: &str = "\
Examples:
  pfs stat /streamfs/cam
      Show the writers and readers of a stream.
  pfs stat --watch
      Show all streams every second, until q is pressed.
  pfs stat --json /streamfs/cam | jq .readers[].lag
      Use the stats in a script.";

/// Examples of `pfs info`.
pub const INFO: &str = "\
Examples:
  pfs info
      Show which daemon answers, and how much of its limits is used.
  pfs --url http://camera:4437 info
      Show a daemon on another machine.
  pfs info --json | jq .memory
      Use the stats in a script.";

/// Examples of `pfs stop`.
pub const STOP: &str = "\
Examples:
  pfs stop
      End the daemon and all its streams; the next pfs starts a new one.
  pfs stop --if-idle
      Stop it only if it has no streams and no clients, for example after an update of pfs.";

/// Examples of `pfs bench`.
pub const BENCH: &str = "\
Examples:
  pfs bench --readers 16
      Measure the throughput of one writer and 16 readers.
  pfs bench --readers 4 --chunk-size 64 --rate 1000
      Measure the latency of small chunks, at 1,000 per second.
  pfs bench --readers 4 --transport unix
      Measure the throughput without shared memory.
  pfs --url http://127.0.0.1:4437 bench --readers 4
      Measure the throughput over HTTP.
  pfs bench --json | jq .delivered.mb_per_s
      Use the stats in a script.";

/// Environment variables and their meaning.
pub const ENVIRONMENT: [(&str, &str); 13] = [
    ("PFS_SOCKET", "Socket of the daemon; --socket overrides it. pfs then starts no daemon."),
    ("PFS_URL", "URL of the daemon; --url overrides it. pfs then starts no daemon."),
    (
        "PFS_TOKEN",
        "Token for the daemon at the URL; --token-file overrides it. Cannot be used with PFS_TOKEN_FILE.",
    ),
    (
        "PFS_TOKEN_FILE",
        "File that holds the token for the daemon at the URL; --token-file overrides it.",
    ),
    ("PFS_CA_FILE", "File with certificates to trust at the URL; --ca-file overrides it."),
    (
        "PFS_CLIENT_CERT_FILE",
        "File with the certificate and key to present at the URL; --client-cert-file overrides it.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
        "The proxy for URLs, with the usual meaning. URLs on this machine are reached without a proxy.",
    ),
    ("PFS_AUTOSTART", "If 0, pfs starts no daemon when none answers."),
    (
        "XDG_RUNTIME_DIR",
        "The first directory where pfs looks for a daemon, on pfs/pfsd.sock; the help of --socket lists the others.",
    ),
    (
        "PFSD_LOG",
        "Log level of a daemon that pfs starts, for pfsd.log beside its socket; warn if not set. All variables of pfsd(1) \
         apply to this daemon.",
    ),
    ("NO_COLOR", "If not empty, nothing is colored, unless --color is always."),
    (
        "CLICOLOR_FORCE",
        "If not empty, colors are used even without a terminal, unless NO_COLOR or --color says otherwise.",
    ),
    ("TERM", "If dumb or not set, nothing is colored and nothing is drawn over."),
];
