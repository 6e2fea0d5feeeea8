"""Hooks for requests that the fuzzer cannot derive from the API description.

A response that would follow a stream for ever is requested with an end at the stream's head.
Other parameters stay as generated.
"""

import struct
import zlib

import schemathesis
from hypothesis import strategies as st

FRAMES = "application/vnd.pfs.frames"


def frame(kind, payload):
    return struct.pack("<IB", len(payload), kind) + payload


HELLO = frame(0x01, b"pfs\0" + struct.pack("<HHQ", 1, 1, 0))

# Message kinds: Create to Info, except those that open a writer or a reader (a reader would be
# served until its stream ends), those that only a writer may send, and unknown ones.
KINDS = [0x02, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x7F, 0xFF]
PATHS = st.sampled_from([b"/", b"/streamfs", b"/streamfs/cam", b"/streamfs/README", b"/other/x"])
PAYLOADS = PATHS.map(lambda path: struct.pack("<H", len(path)) + path + bytes(4)) | st.binary(max_size=64)
REQUESTS = st.lists(st.builds(frame, st.sampled_from(KINDS), PAYLOADS), max_size=4).map(b"".join)

schemathesis.openapi.media_type(FRAMES, REQUESTS.map(lambda requests: HELLO + requests) | st.binary(max_size=64))


@schemathesis.serializer(FRAMES)
def frames(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


def fork_headers(headers):
    return [name for name in headers if name.lower().startswith("stream-fork")]


@schemathesis.check
def forks_and_nothing_else_are_501(context, response, case):
    asked = case.path.startswith("/v1/stream/") and fork_headers(response.request.headers)
    if asked and response.request.method in ("PUT", "POST"):
        assert response.status_code >= 400, f"{response.status_code} for a fork"
    else:
        assert response.status_code != 501, "nobody asked for a fork"


NAMES = ["cam", "log", "a/b", "späße", "README"]


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw.get("operationId")
    query, headers = dict(case.query or {}), case.headers
    chance = zlib.crc32(repr((query, case.path_parameters, headers)).encode(errors="replace"))
    if chance % 4:
        make_sense(operation, case, query, headers, chance // 4)
    if operation in ("read", "agfsRead") and query.get("until", "closed") in ("", "closed", "writers-gone"):
        query["until"] = "caught-up"
    if operation == "read":
        # It could wait for a stream that is never created.
        query.pop("wait", None)
    if operation == "durableRead" and query.get("live") == "sse":
        # This response lasts for a minute, as the protocol requires.
        query["live"] = "long-poll"
    case.query = query


def make_sense(operation, case, query, headers, chance):
    """Uses a few names, so that some streams exist, and removes contradictory parameters."""
    name = NAMES[chance % len(NAMES)]
    if case.path_parameters and "name" in case.path_parameters:
        case.path_parameters["name"] = name
    if "path" in query and operation != "agfsList":
        query["path"] = f"/streamfs/{name}"
    # A generated tag rarely matches a stream, and a failed condition stops the request.
    for condition in ("If-Match", "If-None-Match"):
        headers.pop(condition, None)
    if operation == "read":
        starts = [key for key in ("from", "tail", "since") if key in query]
        for key in starts[1:]:
            del query[key]
        if "stat" in query or "Range" in headers:
            for key in ("from", "tail", "since", "wait") + (("stat",) if "Range" in headers else ("slow",)):
                query.pop(key, None)
    if operation in ("append", "appendByPost") and len(query) > ("close" in query):
        query["create"] = ""
    if operation in ("durableCreate", "durableAppend") and chance % 5:
        # With them, nothing would be created or appended.
        for name in fork_headers(headers):
            del headers[name]
    if operation == "durableCreate":
        headers.pop("Stream-Expires-At" if chance % 2 else "Stream-TTL", None)
    if operation == "durableAppend" and not all(f"Producer-{part}" in headers for part in ("Id", "Epoch", "Seq")):
        for part in ("Id", "Epoch", "Seq"):
            headers.pop(f"Producer-{part}", None)
