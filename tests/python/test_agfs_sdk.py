"""AGFS's own SDK, called as its users call it, against the real pfsd."""

import io
import tempfile
import threading
import unittest
from pathlib import Path

import pyagfs
import requests
from pyagfs import AGFSClient, AGFSClientError

from daemon import Daemon, eventually


class Sdk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.stop)

    def setUp(self):
        self.client = AGFSClient(self.daemon.url)
        self.path = f"/streamfs/{self._testMethodName}"

    def plain(self, method, query, path=None, **more):
        """Sends a request that AGFS does not support, to the stream's own path."""
        answer = requests.request(method, f"{self.daemon.url}{path or self.path}?{query}", timeout=10, **more)
        answer.raise_for_status()
        return answer

    def readers(self, path=None):
        return int(self.client.stat(path or self.path)["meta"]["Content"]["active_readers"])

    def names(self, path):
        return {entry["name"]: entry for entry in self.client.ls(path)}

    def test_health_tells_that_the_daemon_lives(self):
        health = self.client.health()
        self.assertEqual(health["status"], "healthy")
        self.assertRegex(health["version"], r"^\d+\.\d+\.\d+")

    def test_what_is_written_is_listed_and_described(self):
        self.assertEqual(self.client.write(self.path, b"hello"), "Written 5 bytes")
        self.assertEqual(self.client.write(self.path, b" world"), "Written 6 bytes")
        stat = self.client.stat(self.path)
        self.assertEqual((stat["name"], stat["size"], stat["isDir"]), (self._testMethodName, 11, False))
        self.assertEqual((stat["mode"], stat["meta"]["Type"]), (0o644, "stream"))
        self.assertEqual(stat["meta"]["Content"]["total_written"], "11")
        self.assertRegex(stat["modTime"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$")
        listed = self.names("/streamfs")
        self.assertEqual(listed[self._testMethodName], stat)
        self.assertEqual((listed["README"]["mode"], listed["README"]["meta"]["Type"]), (0o444, "doc"))

    def test_the_root_has_the_mount_and_the_mount_is_a_directory(self):
        for path in ["/", ""]:
            self.assertEqual(self.names(path or "/")["streamfs"]["isDir"], True)
        for path in ["/", "/streamfs", "/streamfs/"]:
            stat = self.client.stat(path)
            self.assertEqual((stat["isDir"], stat["mode"], stat["size"]), (True, 0o755, 0), path)

    def test_a_follower_gets_the_history_and_then_what_comes_until_the_stream_is_closed(self):
        self.client.write(self.path, b"before ")
        with self.client.cat(self.path, stream=True) as response:
            pieces = response.iter_content(chunk_size=None)
            self.assertEqual(next(pieces), b"before ")
            AGFSClient(self.daemon.url).write(self.path, b"after")
            self.assertEqual(next(pieces), b"after")
            self.plain("PUT", "close")
            self.assertEqual(list(pieces), [])

    def test_a_follower_may_come_before_the_stream_exists_and_makes_nothing(self):
        with self.client.cat(self.path, stream=True) as response:
            self.assertNotIn(self._testMethodName, self.names("/streamfs"))
            self.client.write(self.path, b"first")
            self.assertEqual(next(response.iter_content(chunk_size=None)), b"first")

    def test_sixteen_followers_get_the_same_bytes_from_one_writer(self):
        data = bytes(range(256)) * 4096
        self.client.create(self.path)
        got, threads = {}, []

        def follow(number):
            with AGFSClient(self.daemon.url).cat(self.path, stream=True) as response:
                got[number] = b"".join(response.iter_content(chunk_size=65536))

        for number in range(16):
            threads.append(threading.Thread(target=follow, args=(number,), daemon=True))
            threads[-1].start()
        eventually("all have attached", lambda: self.readers() == 16)
        self.assertEqual(self.client.write(self.path, data), f"Written {len(data)} bytes")
        self.plain("PUT", "close")
        for thread in threads:
            thread.join(timeout=60)
        self.assertEqual([got[number] == data for number in range(16)], [True] * 16)

    def test_an_iterator_is_appended_as_it_comes(self):
        goes_on = threading.Event()

        def pieces():
            yield b"one "
            goes_on.wait(timeout=60)
            yield b"two"

        writer = threading.Thread(target=AGFSClient(self.daemon.url).write, args=(self.path, pieces()), daemon=True)
        with self.client.cat(self.path, stream=True) as response:
            writer.start()
            content = response.iter_content(chunk_size=None)
            self.assertEqual(next(content), b"one ")
            goes_on.set()
            self.assertEqual(next(content), b"two")
        writer.join(timeout=60)
        self.assertEqual(self.client.stat(self.path)["size"], 7)

    def test_a_file_is_appended(self):
        self.assertEqual(self.client.write(self.path, io.BytesIO(b"x" * 300_000)), "Written 300000 bytes")
        self.assertEqual(self.client.stat(self.path)["size"], 300_000)

    def test_one_write_of_a_few_bytes_is_one_chunk(self):
        for size in [1, 60_000, 5]:
            self.client.write(self.path, b"x" * size)
        self.assertEqual(self.plain("GET", "stat").json()["chunks"], 3)

    def test_a_follower_that_loses_something_breaks(self):
        self.plain("PUT", "create&ring-buffer-size=64KB&channel-buffer-size=64KB")
        with self.client.cat(self.path, stream=True) as response:
            eventually("it has attached", lambda: self.readers() == 1)
            # More than the sockets on the way hold.
            for _ in range(64):
                self.client.write(self.path, b"x" * 1_000_000)
            self.plain("PUT", "close")
            with self.assertRaises(requests.exceptions.ChunkedEncodingError):
                for _ in response.iter_content(chunk_size=65536):
                    pass

    def test_a_follower_of_a_stream_that_is_removed_breaks(self):
        self.client.write(self.path, b"something")
        with self.client.cat(self.path, stream=True) as response:
            pieces = response.iter_content(chunk_size=None)
            next(pieces)
            self.assertEqual(self.client.rm(self.path)["message"], "deleted")
            with self.assertRaises(requests.exceptions.ChunkedEncodingError):
                list(pieces)

    def test_reading_a_stream_as_a_file_says_how_to_read_it(self):
        self.client.write(self.path, b"something")
        with self.assertRaisesRegex(AGFSClientError, "use stream mode"):
            self.client.cat(self.path)

    def test_the_document_is_read_whole_or_in_part(self):
        text = self.client.cat("/streamfs/README")
        self.assertIn(b"pfs cat --stream", text)
        self.assertEqual(self.client.cat("/streamfs/README", offset=10, size=20), text[10:30])
        self.assertEqual(self.client.cat("/streamfs/README", offset=len(text) + 1), b"")
        self.assertEqual(self.client.cat("/streamfs/README", stream=True).content, text)
        self.assertEqual(self.client.stat("/streamfs/README")["size"], len(text))
        with self.assertRaisesRegex(AGFSClientError, "document"):
            self.client.write("/streamfs/README", b"other text")
        with self.assertRaisesRegex(AGFSClientError, "document"):
            self.client.rm("/streamfs/README")

    def test_a_stream_is_created_once_and_removed_once(self):
        self.assertEqual(self.client.create(self.path), {"message": "file created"})
        with self.assertRaisesRegex(AGFSClientError, "exists already"):
            self.client.create(self.path)
        self.assertEqual(self.client.rm(self.path), {"message": "deleted"})
        for gone in [self.client.rm, self.client.stat, self.client.cat, self.client.ls]:
            with self.assertRaisesRegex(AGFSClientError, "there is no stream"):
                gone(self.path)

    def test_a_closed_stream_takes_no_more(self):
        self.client.write(self.path, b"all")
        self.plain("PUT", "close")
        with self.assertRaisesRegex(AGFSClientError, "closed"):
            self.client.write(self.path, b"more")
        self.assertEqual(self.client.cat(self.path, stream=True).content, b"all")

    def test_directories_come_and_go_with_their_streams(self):
        for name in ["a", "b/c", "b/d"]:
            self.client.write(f"{self.path}/{name}", b"x")
        listed = self.names(self.path)
        self.assertEqual({name: entry["isDir"] for name, entry in listed.items()}, {"a": False, "b": True})
        self.assertEqual(set(self.names(f"{self.path}/b")), {"c", "d"})
        self.assertTrue(self.client.stat(f"{self.path}/b")["isDir"])
        with self.assertRaisesRegex(AGFSClientError, "recursive"):
            self.client.rm(f"{self.path}/b")
        self.client.rm(f"{self.path}/b", recursive=True)
        self.assertEqual(set(self.names(self.path)), {"a"})
        with self.assertRaisesRegex(AGFSClientError, "not a directory"):
            self.client.ls(f"{self.path}/a")
        with self.assertRaisesRegex(AGFSClientError, "appear and disappear"):
            self.client.mkdir(f"{self.path}/e")

    def test_a_file_is_uploaded_into_a_new_directory_and_the_document_downloaded(self):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder)
            (local / "in").write_bytes(b"\0\xff data")
            pyagfs.upload(self.client, str(local / "in"), f"{self.path}/deep/down")
            self.plain("PUT", "close", path=f"{self.path}/deep/down")
            pyagfs.download(self.client, f"{self.path}/deep/down", str(local / "out"), stream=True)
            self.assertEqual((local / "out").read_bytes(), b"\0\xff data")
            pyagfs.download(self.client, "/streamfs/README", str(local / "README"))
            self.assertEqual((local / "README").read_bytes(), self.client.cat("/streamfs/README"))

    def test_names_may_have_any_character(self):
        path = f"{self.path}/späße & co?=#%2F"
        self.client.write(path, b"x")
        self.assertEqual(self.client.stat(path)["name"], "späße & co?=#%2F")
        self.assertEqual(set(self.names(self.path)), {"späße & co?=#%2F"})
        self.client.rm(path)

    def test_a_bad_path_is_refused_and_its_fault_is_named(self):
        for path, says in [
            ("streamfs/x", "does not begin with '/'"),
            ("/streamfs/../etc", r"\.\."),
            ("/other/x", "outside the mount"),
            ("/streamfs/" + "x" * 2000, "1024|too long"),
        ]:
            for call in [self.client.stat, self.client.create, self.client.rm, self.client.cat]:
                with self.assertRaisesRegex(AGFSClientError, says, msg=f"{call.__name__} {path}"):
                    call(path)

    def test_what_streams_cannot_do_is_an_error_that_says_so(self):
        for call in [
            lambda: self.client.mv(self.path, "/streamfs/other"),
            lambda: self.client.chmod(self.path, 0o600),
            lambda: self.client.mounts(),
            lambda: self.client.open_handle(self.path),
        ]:
            with self.assertRaisesRegex(AGFSClientError, "of the AGFS API, pfsd serves"):
                call()


if __name__ == "__main__":
    unittest.main()
