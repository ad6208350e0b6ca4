"""What a call costs: CPU of a whole `llmpipe run` beside a bare aiohttp loop making the same requests, in one run.

    python benchmarks/calls.py [--calls 3000] [--in-flight 64 256] [--rounds 3]

CPU is user + system of the whole client process, start-up included, and also without start-up (a run of one call taken
off). Absolute times drift with the machine; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import server
from project import write_project

HERE = Path(__file__).resolve().parent
URL_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Cost:
    """What a process took: CPU and wall time in seconds, peak memory in MiB."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def measured(command: list[str], folder: Path) -> Cost:
    """Run `command` to its end. Raises SystemExit with what it printed if it fails."""
    environment = {name: value for name, value in os.environ.items() if name.lower() not in URL_VARIABLES}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    environment["OPENAI_COMPATIBLE_API_KEY"] = "sk-benchmark-0123456789"
    started = time.perf_counter()
    with (folder / "printed").open("w+") as printed:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        if process.returncode != 0:
            printed.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{printed.read()}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def bare(url: str, calls: int, in_flight: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        return measured([sys.executable, str(HERE / "bare.py"), url, str(calls), str(in_flight)], Path(folder))


def whole_run(url: str, calls: int, in_flight: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = write_project(Path(folder), url, calls, in_flight)
        return measured([sys.executable, "-m", "llmpipe", "run", str(pipeline), "--quiet"], Path(folder))


def counted(what: str, url: str, calls: int, run: Cost) -> Cost:
    """`run`, once the server has seen every call exactly once."""
    seen = server.stats(url)["requests"]
    if seen != calls:
        raise SystemExit(f"{what}: the server saw {seen} requests instead of {calls}")
    return run


def row(name: str, cost: Cost, start: Cost, calls: int) -> tuple[float, float]:
    """Print one line; returns CPU ms per call with and without start-up."""
    whole = cost.cpu_s * 1000 / calls
    net = max(0.0, cost.cpu_s - start.cpu_s) * 1000 / calls
    print(f"  {name:<14}{whole:>12.3f}{net:>16.3f}{cost.wall_s:>10.2f}{cost.peak_mib:>10.0f}")
    return whole, net


def once(name: str, folder: Path, calls: int, in_flight: int, delay_ms: float) -> Cost:
    run = {"bare aiohttp": bare, "llmpipe run": whole_run}[name]
    with server.running(folder, delay_ms) as url:
        return counted(name, url, calls, run(url, calls, in_flight))


def compare(folder: Path, in_flight: int, options: argparse.Namespace) -> None:
    """The two in turn, `rounds` times; of each the round with the least CPU, which others at work disturbed least."""
    print(f"\n{in_flight} in flight, {options.calls:,} calls, {options.delay_ms:g} ms latency")
    print(f"  {'':<14}{'CPU ms/call':>12}{'without start':>16}{'wall s':>10}{'peak MiB':>10}")
    names = ("bare aiohttp", "llmpipe run")
    rounds: dict[str, list[Cost]] = {name: [] for name in names}
    starts = {name: once(name, folder, 1, in_flight, options.delay_ms) for name in names}
    for _ in range(options.rounds):
        for name in names:
            rounds[name].append(once(name, folder, options.calls, in_flight, options.delay_ms))
    best = [min(rounds[name], key=lambda cost: cost.cpu_s) for name in names]
    found = [row(name, cost, starts[name], options.calls) for name, cost in zip(names, best, strict=True)]
    print(f"  {'ratio':<14}{found[1][0] / found[0][0]:>12.2f}{found[1][1] / found[0][1]:>16.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU per call of a whole run beside a bare aiohttp loop.")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--delay-ms", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for in_flight in options.in_flight:
            compare(Path(folder), in_flight, options)


if __name__ == "__main__":
    main()
