//! Examples of each command, and the environment variables: the last sections of help and man
//! pages.

/// Examples of `pfs` itself.
pub const PFS: &str = "\
Examples:
  ffmpeg -re -i cam.mp4 -f mpegts - | pfs write --stream /streamfs/cam
      Write a live video.
  pfs cat --stream /streamfs/cam | ffplay -
      Watch it; any number of readers may.
  PFS_URL=http://camera:4437 pfs cat --stream /streamfs/cam | ffplay -
      Watch it from elsewhere.
  pfs help cat
      All about a command.";

/// Examples of `pfs write`.
pub const WRITE: &str = "\
Examples:
  pfs write --stream --replace --close /streamfs/copy < file
      Send a file and end the stream, however often.
  pfs write --stream --close /streamfs/log access.log.1 access.log
      Send files one after the other.
  echo data | pfs write /streamfs/notes
      Append one chunk.
  tail -F app.log | pfs write --lines /streamfs/log
      Send a log; several writers may, and no line is split.
  make 2>&1 | pfs write --lines --tee /streamfs/build
      Send what you see.
  pfs write --stream --replace --close /streamfs/dump -- pg_dump shop
      Send the output of a command, whose failure no reader takes for the end.";

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
      Let writers wait rather than lose a byte.
  pfs cat /streamfs/README
      Print the document that the daemon serves.";

/// Examples of `pfs create`.
pub const CREATE: &str = "\
Examples:
  pfs create --exist-ok --ring-buffer-size 64MB /streamfs/vod
      Keep 64 MiB of history for readers that join late; it may be there already.
  pfs create --reserve --ring-buffer-size 1GB /streamfs/dump
      Fail now rather than keep less history when memory runs short.
  pfs create --replace /streamfs/copy
      Start with a new stream before the first reader attaches.
  pfs create --channel-buffer-size 256KB --ring-buffer-size 512KB --content-type video/mp2t /streamfs/cam
      Low latency for live video.";

/// Examples of `pfs close`.
pub const CLOSE: &str = "\
Examples:
  pfs close /streamfs/cam
      Let every reader of the stream come to its end.
  pfs close --failed /streamfs/cam
      Tell every reader that what it gets is not all.";

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
      Close some, whatever their names.
  pfs ls --json | jq -r 'select(.readers == 0) | .path'
      Find streams that nobody reads.";

/// Examples of `pfs stat`.
pub const STAT: &str = "\
Examples:
  pfs stat /streamfs/cam
      Show who writes and who reads.
  pfs stat --watch
      Go on showing all streams, until q is pressed.
  pfs stat --json /streamfs/cam | jq .readers[].lag
      Use the stats in a script.";

/// Examples of `pfs info`.
pub const INFO: &str = "\
Examples:
  pfs info
      Show which daemon answers, and how much of its limits is used.
  pfs --url http://camera:4437 info
      The same of a daemon elsewhere.
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
      How much arrives at 16 readers, as fast as one writer can.
  pfs bench --readers 4 --chunk-size 64 --rate 1000
      How long a small chunk takes, at 1,000 a second.
  pfs bench --readers 4 --transport socket
      The same without shared memory.
  pfs --url http://127.0.0.1:4437 bench --readers 4
      The same over HTTP.
  pfs bench --json | jq .delivered.mb_per_s
      Use the stats in a script.";

/// Environment variables and their meaning.
pub const ENVIRONMENT: [(&str, &str); 13] = [
    ("PFS_SOCKET", "Socket of the daemon, as --socket, which beats it. No daemon is started then."),
    ("PFS_URL", "URL of the daemon, as --url, which beats it. No daemon is started then."),
    (
        "PFS_TOKEN",
        "The token for the daemon at the URL. --token-file beats it, and PFS_TOKEN_FILE excludes it.",
    ),
    (
        "PFS_TOKEN_FILE",
        "File that holds the token for the daemon at the URL, as --token-file, which beats it.",
    ),
    ("PFS_CA_FILE", "File with certificates to trust at the URL, as --ca-file, which beats it."),
    (
        "PFS_CLIENT_CERT_FILE",
        "File with the certificate and key to show at the URL, as --client-cert-file, which beats it.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
        "The proxy for URLs, as other programs have it. What is on this machine is reached without one.",
    ),
    ("PFS_AUTOSTART", "With 0, no daemon is started when none answers."),
    (
        "XDG_RUNTIME_DIR",
        "The first directory where a daemon is looked for, on pfs/pfsd.sock; --socket has the others.",
    ),
    (
        "PFSD_LOG",
        "How much a daemon that pfs starts writes to pfsd.log beside its socket; warn if not set. All variables of pfsd(1) \
         hold for it.",
    ),
    ("NO_COLOR", "If not empty, nothing is colored, unless --color is always."),
    (
        "CLICOLOR_FORCE",
        "If not empty, colors are used also where there is no terminal, unless NO_COLOR or --color says otherwise.",
    ),
    ("TERM", "With dumb, or where it is not set, nothing is colored and nothing is drawn over."),
];
