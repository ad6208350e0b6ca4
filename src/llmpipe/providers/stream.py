"""Streamed replies, byte by byte: server-sent events or lines of JSON in, the body of an unstreamed reply out.

    bytes --Framer--> Event, Event, ... --the wire's Assembler--> body --> the wire's decode

A stream ends with its terminal event or it is broken off: a closed connection alone proves nothing (facts A6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

from llmpipe.errors import BadReply, ReplyTooLarge, StreamCut
from llmpipe.frozen import frozen
from llmpipe.providers.body import NotJsonBody, dump_json, read_json
from llmpipe.types import HttpReply

MAX_STREAM_BYTES = 64 * 1024 * 1024  # of events, which are mostly wrapping
MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # of what the events add up to
_RAW_TAIL = 64 * 1024
_AROUND_EVENT = 256  # bytes of an event that carries a few letters

Framing = Literal["sse", "ndjson"]
_CONTENT_TYPES: Mapping[str, Framing] = {
    "text/event-stream": "sse",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/json-seq": "ndjson",
}


@frozen
class Event:
    """One event of a stream: its name ("" if the framing has none) and its document.

    `data: [DONE]` is an event of that name without a document.
    """

    name: str
    data: Any


class Assembler(Protocol):
    """Adds up the events of one stream, so that no more than the answer itself is held.

    `complete`: the terminal event was seen, or an error that ends the reply. `done`: nothing of use can follow.
    """

    complete: bool
    done: bool

    def add(self, event: Event) -> None:
        """Take in the next event."""

    def body(self) -> Mapping[str, Any]:
        """What has come so far, shaped as the body of an unstreamed reply."""


class Framer:
    """Cuts bytes into events as they come in. Raises ReplyTooLarge or BadReply; `feed` what arrives, then `close`."""

    def __init__(self, framing: Framing) -> None:
        self._sse = framing == "sse"
        self._rest = bytearray()
        self._scanned = 0
        self._name = ""
        self._data: list[bytes] = []
        self._data_size = 0
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        self._rest += chunk
        events: list[Event] = []
        start = 0
        while (end := self._rest.find(b"\n", max(start, self._scanned))) >= 0:
            self._line(bytes(self._rest[start:end]).rstrip(b"\r"), events)
            start = self._scanned = end + 1
        del self._rest[:start]
        self._scanned = len(self._rest)
        if len(self._rest) > MAX_LINE_BYTES:
            raise ReplyTooLarge(f"a line of the stream is longer than {MAX_LINE_BYTES} bytes", billed="maybe")
        return events

    def close(self) -> list[Event]:
        """The events that the end of the stream completes: a last line without its newline."""
        events: list[Event] = []
        if self._rest:
            self._line(bytes(self._rest).rstrip(b"\r"), events)
            self._rest.clear()
        if self._data:
            self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not self._sse:
            if line.strip():
                events.append(_event("", line))
            return
        if not line:
            if self._data:
                events.append(_event(self._name, b"\n".join(self._data)))
            self._name, self._data, self._data_size = "", [], 0
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_size += len(value)
            if self._data_size > MAX_LINE_BYTES:
                raise ReplyTooLarge(f"an event of the stream is longer than {MAX_LINE_BYTES} bytes", billed="maybe")
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")[:100]


class StreamReader:
    """Collects one streamed reply. `feed` each chunk; stop when `done`; `reply` is then what the wire decodes.

    A server that answers a streaming request with a plain body (an error, a proxy, one that cannot stream) is taken at
    its content type: such a body is handed on as it came.
    """

    def __init__(self, status: int, headers: Mapping[str, str], *, assembler: Assembler) -> None:
        self._status, self._headers, self._assembler = status, headers, assembler
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        framing = _CONTENT_TYPES.get(kind) if 200 <= status < 300 else None
        self._framer = Framer(framing) if framing else None
        self._plain = bytearray()
        self._size = self._count = self._weighed = 0
        self.done = False

    def feed(self, chunk: bytes) -> None:
        """Take in `chunk`. Raises ReplyTooLarge above the limits, BadReply for an event that is not JSON."""
        self._size += len(chunk)
        if self._size > MAX_STREAM_BYTES:
            raise ReplyTooLarge(f"the reply is longer than {MAX_STREAM_BYTES} bytes", billed="maybe")
        if self._framer is None:
            self._plain += chunk
        else:
            self._take(self._framer.feed(chunk))
        self._weigh()

    @property
    def kept(self) -> int:
        """About how many bytes of what has come are kept: what is put around each event is not."""
        return max(0, self._size - _AROUND_EVENT * self._count)

    def reply(self) -> HttpReply:
        """The whole reply. Raises StreamCut, with what had arrived, if the terminal event is missing."""
        if self._framer is None:
            return HttpReply(self._status, self._headers, bytes(self._plain))
        if not self.done:
            self._take(self._framer.close())
        if not self._assembler.complete:
            raise StreamCut(
                f"the stream broke off after {self._count} events, without its terminal event",
                status=self._status,
                raw=self.partial(),
                billed="maybe",
            )
        return HttpReply(self._status, self._headers, dump_json(self._assembler.body()))

    def partial(self) -> str:
        """What has arrived so far, as text for the failure file; the last 64 KiB of it."""
        if self._framer is None:
            return bytes(self._plain[-_RAW_TAIL:]).decode("utf-8", "replace")
        return dump_json(self._assembler.body()).decode("utf-8")[-_RAW_TAIL:]

    def _weigh(self) -> None:
        """Refuse an answer that is larger than any model's; looked at whenever as much more has come."""
        if self._size - self._weighed <= MAX_ANSWER_BYTES:
            return
        self._weighed = self._size
        held = len(self._plain) if self._framer is None else len(dump_json(self._assembler.body()))
        if held > MAX_ANSWER_BYTES:
            raise ReplyTooLarge(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", billed="maybe")

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if not self.done:
                self._count += 1
                self._assembler.add(event)
                self.done = self._assembler.done


def assemble(assembler: Assembler, events: Iterable[Event]) -> Mapping[str, Any]:
    """The body that `events` add up to, complete or not."""
    for event in events:
        assembler.add(event)
    return assembler.body()


def error_of(event: Event) -> Mapping[str, Any] | None:
    """The error body that an event is (facts A6: errors come after a 200 too), or None."""
    data = event.data
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, Mapping):
        return None
    if data.get("error") and not isinstance(data.get("choices"), list):
        return data
    if event.name == "error" or data.get("type") == "error":
        return data if data.get("error") else {"error": dict(data)}
    return None


def _event(name: str, raw: bytes) -> Event:
    text = raw.strip()
    if text == b"[DONE]":
        return Event("[DONE]", None)
    try:
        return Event(name, read_json(text))
    except NotJsonBody as err:
        raise BadReply(
            f"an event of the stream cannot be read: {err}",
            raw=text[:_RAW_TAIL].decode("utf-8", "replace"),
            billed="maybe",
        ) from None
