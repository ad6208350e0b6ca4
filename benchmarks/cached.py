"""What a run costs that is answered wholly from the cache, in rows per CPU second. `python benchmarks/cached.py`"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import server
from calls import measured
from project import write_project


def main() -> None:
    parser = argparse.ArgumentParser(description="Rows per CPU second of a run that is answered from the cache.")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with server.running(folder, 1.0) as url:
            pipeline = write_project(folder / "project", url, options.rows, 256)
            command = [sys.executable, "-m", "llmpipe", "run", str(pipeline), "--quiet"]
            measured(command, folder)  # fills the cache
            asked = server.stats(url)["requests"]
            best = min((measured(command, folder) for _ in range(options.rounds)), key=lambda cost: cost.cpu_s)
            if server.stats(url)["requests"] != asked:
                raise SystemExit("a row was asked again")
    print(f"{options.rows:,} rows from the cache: {best.cpu_s:.2f} s of CPU, {options.rows / best.cpu_s:,.0f} rows per")
    print(f"CPU second, start-up included; peak {best.peak_mib:.0f} MiB")


if __name__ == "__main__":
    main()
