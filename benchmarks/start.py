"""What starting costs: CPU of short commands beside `python -c pass`. `python benchmarks/start.py [--rounds 9]`"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import server
from calls import measured
from project import write_project

PIPELINE = Path(__file__).resolve().parents[1] / "pipelines" / "tickets.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of short commands, as a multiple of an empty Python process.")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with server.running(folder, 20.0) as url:
            for number in range(options.rounds):
                one = write_project(folder / str(number), url, 1, 64)
                llmpipe = [sys.executable, "-m", "llmpipe"]
                for what, command in {
                    "python -c pass": [sys.executable, "-c", "pass"],
                    "--help": [*llmpipe, "--help"],
                    "validate": [*llmpipe, "validate", str(PIPELINE)],
                    "run, one call": [*llmpipe, "run", str(one), "--quiet"],
                }.items():
                    found.setdefault(what, []).append(measured(command, folder).cpu_s)
    least = min(found["python -c pass"])
    for what, seconds in found.items():
        print(f"{what:<16}{min(seconds) * 1000:>7.0f} ms{min(seconds) / least:>8.1f}")


if __name__ == "__main__":
    main()
