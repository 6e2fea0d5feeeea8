"""A pfsd for one test, with HTTP on a free port."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

DEADLINE = 60


def eventually(what, condition):
    """Waits until the condition holds, and fails if it never does."""
    end = time.monotonic() + DEADLINE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"this did not come true in {DEADLINE} seconds: {what}")
        time.sleep(0.005)


class Daemon:
    """Running pfsd. `stop` kills the process and removes its folder with all its files."""

    def __init__(self, config=""):
        self._folder = tempfile.TemporaryDirectory(prefix="pfs-python-")
        folder = Path(self._folder.name)
        (folder / "pfsd.toml").write_text(config)
        self._log = folder / "log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PFS")}
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [
                    os.environ["PFSD"],
                    *("--config", folder / "pfsd.toml", "--socket", folder / "pfsd.sock", "--http", "127.0.0.1:0"),
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=clean,
            )
        self.pid = self._process.pid
        self.url = "http://" + eventually("pfsd serves HTTP", self._address)

    def _address(self):
        if not self.runs():
            raise AssertionError(f"pfsd ended at once: {self.log()}")
        found = re.search(r"serving HTTP address=(\S+)\n", self.log())
        return found and found[1]

    def runs(self):
        return self._process.poll() is None

    def log(self):
        return self._log.read_text(errors="replace")

    def memory(self):
        """Resident memory, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()
