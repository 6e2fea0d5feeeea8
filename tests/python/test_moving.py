"""The Python programs in the migration guide, exactly as printed there.

The comments at the end of a block are its expected output.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from daemon import DEADLINE, Daemon

PAGE = Path(__file__).parents[2] / "docs/moving.md"

# Address of the daemon in the page, and the token in the page.
ADDRESS = "127.0.0.1:4437"
TOKEN = "41d0a1ccd2b44d7aab1c"


def programs():
    """Yields the first line number, the text and the expected output of each block."""
    program = None
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line == "```python":
            begin, program = number + 1, []
        elif line == "```" and program is not None:
            printed = []
            while program and program[-1].startswith("# "):
                printed.insert(0, program.pop().removeprefix("# "))
            yield begin, "\n".join(program), printed
            program = None
        elif program is not None:
            program.append(line)


class Moving(unittest.TestCase):
    def test_every_program_prints_what_is_written_below_it(self):
        with tempfile.TemporaryDirectory(prefix="pfs-moving-") as folder:
            tokens = Path(folder) / "token"
            tokens.write_text(f"{TOKEN} read,write\n")
            tokens.chmod(0o600)
            daemon = Daemon(f"[auth]\ntoken_file = '{tokens}'\n")
            self.addCleanup(daemon.stop)
            names = []
            for number, program, printed in programs():
                with self.subTest(f"{PAGE.name}:{number}"):
                    names.append(number)
                    self.assertIn(ADDRESS, program)
                    self.assertTrue(printed, "the block tells what it prints")
                    run = subprocess.run(
                        [sys.executable, "-W", "error", "-c", program.replace(ADDRESS, daemon.url.removeprefix("http://"))],
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        text=True,
                        timeout=DEADLINE,
                        cwd=folder,
                        env={**os.environ, "NO_PROXY": "*"},
                    )
                    self.assertEqual((run.returncode, run.stderr), (0, ""))
                    self.assertEqual(run.stdout.splitlines(), printed)
            self.assertEqual(len(names), 3, "the page has a program for AGFS's SDK, requests and Durable Streams")


if __name__ == "__main__":
    unittest.main()
