"""Change one thing in one module that holds a promise, run the tests that execute the line, and say what none noticed.

    python tools/mutants.py [--sample 300] [--seed 1] [--only client/keys.py] [--record FOLDER]

The first pass runs the suite with coverage, so that each line knows its tests; --record keeps it for later samples
of the same code. The second runs the mutants. One that survives needs a test, or has no effect and is named in
tools/mutants-equivalent.txt with the reason. Exits 1 where fewer than nine in ten mutants are killed, or where a
survivor is not named there.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest
from coverage import CoverageData

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tools" / "mutants-equivalent.txt"
MODULES = """
    client/keys client/budget client/gate client/gate_state client/limiter client/breaker client/allowance client/prices
    client/layers/retried client/layers/limited client/layers/budgeted client/layers/single_flight client/layers/cached
    client/layers/journalled client/layers/recalled client/layers/rechecked client/claims client/silence client/clock
    client/redact client/spellings client/key_values client/reask client/large_replies
    policy errors providers/classify providers/anthropic providers/gemini providers/ollama providers/openai_chat
    providers/openai_responses providers/stream providers/body providers/limits providers/usage
    structured/reading json_numbers config/rows_source config/rows_types config/output_paths
    engine/cell_journal engine/ledger engine/ledger_read engine/ledger_versions engine/verdict engine/sums
    engine/summing_up engine/tally engine/spending engine/sufficient engine/unchanged engine/known engine/carry
    engine/outputs engine/formats engine/masking engine/lock engine/balance engine/sequence engine/outages
""".split()
MEMORY_KB = 8 << 20
SECONDS = 60  # of tests for one mutant, nearest and quickest first
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
IN_SQL = (
    (" = ", " != "),
    (" AND ", " OR "),
    (" < ", " <= "),
    (" > ", " >= "),
    (" DESC", " ASC"),
    ("IS NULL", "IS NOT NULL"),
)


@dataclass(frozen=True)
class Mutant:
    """One changed line of one module; its name does not depend on where the line stands."""

    module: str
    line: int
    before: str
    after: str
    text: str  # the whole module, changed

    @property
    def name(self) -> str:
        return f"{self.module}: {self.before}  =>  {self.after}"


def mutants_of(module: str) -> Iterator[Mutant]:
    """Every mutant of a module that parses and differs."""
    source = (ROOT / "src" / "llmpipe" / module).read_text()
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    raw = source.encode()
    for node, replacement in _changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = (raw[:start] + replacement.encode() + raw[end:]).decode()
        after = text[len(raw[: starts[node.lineno - 1]].decode()) :].splitlines()
        span = node.end_lineno - node.lineno + 1
        kept = len(text.splitlines()) - len(lines) + span
        old = " ".join(line.strip() for line in lines[node.lineno - 1 : node.end_lineno])
        new = " ".join(line.strip() for line in after[:kept])
        try:
            compile(text, module, "exec")
        except SyntaxError:
            continue
        if old != new:
            yield Mutant(module, node.lineno, old, new, text)


def _changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Nodes, each with the text that takes its place."""
    quiet = {id(node) for owner in ast.walk(tree) for node in _unwatched(owner)}
    for owner in ast.walk(tree):
        for node in ast.iter_child_nodes(owner):
            if id(node) not in quiet and hasattr(node, "lineno"):
                for text in _replacements(node, owner):
                    yield node, text


def _unwatched(node: ast.AST) -> Iterator[ast.AST]:
    """What says something to people or to the type checker: texts of messages, annotations, decorators."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for part in (
            *node.decorator_list,
            node.returns,
            *(a.annotation for a in node.args.args + node.args.kwonlyargs),
        ):
            yield from ast.walk(part) if part is not None else ()
        if node.name == "__repr__":
            yield from ast.walk(node)
    elif isinstance(node, ast.AnnAssign):
        yield from ast.walk(node.annotation)
    elif (
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal")
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ):
        yield from ast.walk(node)


def _replacements(node: ast.AST, owner: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare):
        swap = SWAPPED.get(type(node.ops[0]))
        if swap:
            yield _unparsed(ast.Compare(node.left, [swap(), *node.ops[1:]], node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield f"({ast.unparse(ast.BoolOp(SWAPPED[type(node.op)](), node.values))})"
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield _unparsed(ast.BinOp(node.left, SWAPPED[type(node.op)](), node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _unparsed(node.operand)
    elif isinstance(node, ast.Constant):
        yield from _constants(node, owner)
    elif isinstance(node, ast.Dict) and len(node.keys) > 1:
        for at in range(len(node.keys)):
            yield ast.unparse(ast.Dict(node.keys[:at] + node.keys[at + 1 :], node.values[:at] + node.values[at + 1 :]))
    else:
        yield from _statements(node)
    if isinstance(owner, ast.If | ast.While | ast.IfExp) and node is owner.test and not isinstance(node, ast.Compare):
        yield f"(not ({ast.unparse(node)}))"


def _statements(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield "return None"
    elif isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)):
        yield "pass"
    elif isinstance(node, ast.AugAssign) and type(node.op) in SWAPPED:
        yield ast.unparse(ast.AugAssign(node.target, SWAPPED[type(node.op)](), node.value))


def _unparsed(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def _constants(node: ast.Constant, owner: ast.AST) -> Iterator[str]:
    value = node.value
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int | float):
        yield repr(value + 1)
    elif isinstance(value, str) and value.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
        for old, new in IN_SQL:
            if old in value:
                yield repr(value.replace(old, new, 1))
    elif (
        isinstance(value, str)
        and value
        and isinstance(owner, ast.Compare | ast.Subscript | ast.Set | ast.List | ast.Tuple)
    ):
        yield repr(value + "~")


class Recorder:
    """A pytest plugin: the seconds that each test took, for the first pass."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def record(folder: Path, tests: list[str], jobs: int) -> None:
    """Run the suite once: which tests execute which line, and how long each takes."""
    recorder = Recorder()
    os.environ["COVERAGE_FILE"] = str(folder / "coverage")
    arguments = ["-q", "-n", str(jobs), "-p", "no:cacheprovider", "--cov", "--cov-context=test", "--cov-report="]
    if pytest.main([*arguments, *tests], plugins=[recorder]) != 0:
        sys.exit("the suite fails without a mutant")
    (folder / "seconds.json").write_text(json.dumps(recorder.seconds))


class Tests:
    """The tests of a line: those of the module's own file first, then the quickest, up to SECONDS in all."""

    def __init__(self, folder: Path) -> None:
        self.data = CoverageData(str(folder / "coverage"))
        self.data.read()
        self.seconds: dict[str, float] = json.loads((folder / "seconds.json").read_text())
        self.lines: dict[str, dict[int, list[str]]] = {}

    def of(self, mutant: Mutant) -> list[str]:
        if mutant.module not in self.lines:
            self.lines[mutant.module] = self.data.contexts_by_lineno(str(ROOT / "src" / "llmpipe" / mutant.module))
        lines = self.lines[mutant.module]
        names = _tests(lines.get(mutant.line, ()))
        if not names:  # it runs when the module is imported: whatever uses the module may notice
            names = _tests(context for contexts in lines.values() for context in contexts)
        stem = Path(mutant.module).stem
        ordered = sorted(names, key=lambda name: (f"test_{stem}" not in name, self.seconds.get(name, 1.0)))
        chosen: list[str] = []
        spent = 0.0
        for name in ordered:
            spent += self.seconds.get(name, 1.0)
            if spent > SECONDS and chosen:
                break
            chosen.append(name)
        return chosen


def _tests(contexts: Iterable[str]) -> set[str]:
    return {context.partition("|")[0] for context in contexts} - {""}


def survives(mutant: Mutant, tests: list[str], source: Path) -> bool:
    """Whether none of `tests` fails with the mutant in a copy of the source. A run that does not end is a failure."""
    if not tests:
        return True
    changed = source / "llmpipe" / mutant.module
    changed.write_text(mutant.text)
    names = source / "tests.txt"
    names.write_text("\n".join(tests))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"@{names}"]
    child = subprocess.Popen(
        ["sh", "-c", f'ulimit -v {MEMORY_KB}; exec "$@"', "sh", *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(source)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return child.wait(timeout=4 * SECONDS) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        shutil.copyfile(ROOT / "src" / "llmpipe" / mutant.module, changed)


def sampled(modules: list[str], number: int, seed: int) -> list[Mutant]:
    """`number` mutants, drawn from all modules alike."""
    found = [mutant for module in modules for mutant in mutants_of(module)]
    return random.Random(seed).sample(found, min(number, len(found)))


def judge(mutants: list[Mutant], tests: Tests, jobs: int) -> list[Mutant]:
    """Run all of them; the survivors."""
    with tempfile.TemporaryDirectory() as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copies.put(Path(shutil.copytree(ROOT / "src", Path(folder) / str(number))))

        def one(mutant: Mutant) -> bool:
            copy = copies.get()
            try:
                alive = survives(mutant, tests.of(mutant), copy)
            finally:
                copies.put(copy)
            print(
                "SURVIVED" if alive else "killed  ",
                f"{mutant.module}:{mutant.line}",
                mutant.name.partition(": ")[2],
                flush=True,
            )
            return alive

        with ThreadPoolExecutor(jobs) as pool:
            return [mutant for mutant, alive in zip(mutants, pool.map(one, mutants), strict=True) if alive]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", action="append", help="a module below src/llmpipe; may be given more than once")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="the tests that count")
    parser.add_argument("--record", type=Path, help="a folder that keeps the first pass, or has kept it")
    options = parser.parse_args()
    folder = options.record or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "seconds.json").exists():
        record(folder, options.tests, options.jobs)
    modules = options.only or [f"{name}.py" for name in MODULES]
    mutants = sampled(modules, options.sample, options.seed)
    survivors = judge(mutants, Tests(folder), options.jobs)
    known = EQUIVALENT.read_text() if EQUIVALENT.exists() else ""
    unnamed = [mutant.name for mutant in survivors if mutant.name not in known]
    killed = len(mutants) - len(survivors)
    print(
        f"{killed} of {len(mutants)} killed ({killed / len(mutants):.1%}), {len(survivors) - len(unnamed)} equivalent"
    )
    print("\n".join(unnamed))
    sys.exit(1 if unnamed or killed < 0.9 * len(mutants) else 0)


if __name__ == "__main__":
    main()
