"""Searches for a parent process, one request after another, each within a limit of CPU time.

Runs as a script in a process of its own, because nothing in Python can stop a search that has begun. A request is two
lengths of 4 bytes, the pattern and the text; the answer is one byte: 1 found, 0 not found, 2 an error.
A search over the limit ends the process by the kernel's hand.
"""

import re
import signal
import struct
import sys


def main() -> None:
    """Answer until standard input ends."""
    limit = float(sys.argv[1])
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(8)) == 8:
        first, second = struct.unpack(">II", head)
        pattern = source.read(first).decode("utf-8", "surrogatepass")
        text = source.read(second).decode("utf-8", "surrogatepass")
        signal.setitimer(signal.ITIMER_VIRTUAL, limit)
        try:
            answer = b"\x01" if re.search(pattern, text) else b"\x00"
        except Exception:  # noqa: BLE001 - whatever it is, the parent has to be told
            answer = b"\x02"
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        sink.write(answer)
        sink.flush()


if __name__ == "__main__":
    main()
