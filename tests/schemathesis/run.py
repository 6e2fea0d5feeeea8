"""Fuzzes its own pfsd over HTTP from the API description, and then checks the daemon's health.

    run.py SECONDS SEED
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from daemon import Daemon, eventually  # noqa: E402

# Small ring buffers, so that many streams fit, and long polls that are short enough for a fuzzer.
CONFIG = """
[plugins.streamfs]
enabled = true
path = "/streamfs"
[plugins.streamfs.config]
ring_buffer_size = "16KB"
channel_buffer_size = "16KB"
[http]
allowed_hosts = ["localhost"]
[limits]
max_streams = 500
long_poll_time = "100ms"
"""

# Two checks do not apply: that every request that fits the description is accepted, and that every
# other one is refused. The description does not say which parameters exclude each other, or that a
# path must be one of a stream, and two of the protocols require the server to ignore what it does
# not understand.
LEFT_OUT = "positive_data_acceptance,negative_data_rejection"

MEGABYTE = 1 << 20


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def main(seconds, seed):
    daemon = Daemon(CONFIG)
    try:
        requests.get(f"{daemon.url}/healthz", timeout=10)
        before, opened = daemon.memory(), descriptors(daemon)
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml",
            "run", f"{daemon.url}/openapi.json",
            "--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(seconds),
            "--exclude-checks", LEFT_OUT, "--request-timeout", "10", "--seed", str(seed),
            "--continue-on-failure", "--no-color",
        ]
        env = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
        # schemathesis saves failures in its folder and repeats them first in the next run. A new
        # folder makes each run a first one.
        with tempfile.TemporaryDirectory(prefix="pfs-schemathesis-") as folder:
            fuzzed = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, timeout=seconds * 3 + 120)

        assert daemon.runs(), f"the daemon has ended: {daemon.log()[-4000:]}"
        removed = requests.delete(f"{daemon.url}/api/v1/files?path=/streamfs&recursive=true", timeout=10)
        assert removed.status_code == 200, removed.text
        assert requests.get(f"{daemon.url}/streamfs/", timeout=10).json() == []
        eventually("it has closed what was opened", lambda: descriptors(daemon) <= opened + 2)
        after = daemon.memory()
        bugs = [line for line in daemon.log().splitlines() if "ERROR" in line or "panic" in line]
        assert not bugs, bugs[:10]
        print(f"\npfsd afterwards: alive, {after / MEGABYTE:.1f} MiB in memory, {before / MEGABYTE:.1f} MiB before")
        assert after < before + 64 * MEGABYTE, "its memory has grown"
        return fuzzed.returncode
    finally:
        daemon.stop()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
