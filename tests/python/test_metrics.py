"""/metrics, parsed by Prometheus's own Python client."""

import unittest

import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

from daemon import Daemon, eventually


class Metrics(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.stop)

    def samples(self, accept="text/plain"):
        answer = requests.get(f"{self.daemon.url}/metrics", headers={"Accept": accept}, timeout=10)
        answer.raise_for_status()
        is_open = answer.headers["content-type"].startswith("application/openmetrics-text")
        self.assertEqual(is_open, "openmetrics" in accept)
        families = list((open_metrics if is_open else prometheus_text)(answer.text))
        for family in families:
            self.assertTrue(family.name.startswith("pfs_"), family.name)
            self.assertTrue(family.documentation, family.name)
            self.assertIn(family.type, ("counter", "gauge", "info"), family.name)
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
        }

    def test_both_formats_tell_the_same(self):
        requests.put(f"{self.daemon.url}/streamfs/s", data=b"x" * 1000, timeout=10)
        text = self.samples()
        other = self.samples("application/openmetrics-text; version=1.0.0")
        about_requests = ("pfs_http_requests_total", "pfs_http_sent_bytes_total", "pfs_connections")
        for key in text.keys() | other.keys():
            if not key[0].startswith(about_requests):
                self.assertEqual(text.get(key), other.get(key), key)

    def test_what_was_done_is_counted(self):
        url = f"{self.daemon.url}/streamfs/s"
        requests.put(f"{url}?create&ring-buffer-size=64KB&channel-buffer-size=64KB", timeout=10)
        requests.put(url, data=b"x" * 1000, timeout=10)
        with requests.get(url, stream=True, timeout=10) as follower:
            pieces = follower.iter_content(chunk_size=None)
            next(pieces)
            now = self.samples()
            self.assertEqual(now["pfs_readers", "drop"], 1)
            self.assertEqual(now["pfs_streams", "open"], 1)
            self.assertEqual(now["pfs_written_bytes_total", "http"], 1000)
            self.assertEqual(now["pfs_read_bytes_total", "http"], 1000)
            self.assertEqual(now["pfs_http_received_bytes_total", "plain"], 1000)
            self.assertGreaterEqual(now["pfs_http_sent_bytes_total", "plain"], 1000)
            self.assertEqual(now["pfs_http_requests_total", "200", "GET", "plain"], 1)
            self.assertEqual(now["pfs_connections",], 2)
            for _ in range(64):
                requests.put(url, data=b"x" * 1_000_000, timeout=10)
            with self.assertRaises(requests.exceptions.ChunkedEncodingError):
                list(pieces)
        after = self.samples()
        self.assertGreaterEqual(after["pfs_gaps_total",], 1)
        read, lost = after["pfs_read_bytes_total", "http"], after["pfs_lost_bytes_total",]
        self.assertGreater(lost, 0)
        self.assertLessEqual(read + lost, 64_001_000)
        self.assertEqual(after["pfs_written_bytes_total", "http"], 64_001_000)
        requests.delete(url, timeout=10)
        eventually("its reader has gone", lambda: self.samples()["pfs_readers", "drop"] == 0)
        self.assertEqual(self.samples()["pfs_written_bytes_total", "http"], 64_001_000, "also of streams that are gone")

    def test_the_time_that_a_writer_waits_for_a_reader_is_counted(self):
        url = f"{self.daemon.url}/streamfs/s"
        requests.put(f"{url}?create&ring-buffer-size=64KB&channel-buffer-size=64KB", timeout=10)
        with requests.get(f"{url}?slow=block", stream=True, timeout=10):
            def endless():
                while True:
                    yield b"x" * 65536

            with self.assertRaises(requests.exceptions.RequestException):
                requests.put(url, data=endless(), timeout=(10, 1))
            eventually("a writer waited", lambda: self.samples()["pfs_blocked_seconds_total",] > 0.1)


if __name__ == "__main__":
    unittest.main()
