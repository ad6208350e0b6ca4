"""`llmpipe providers`: who can answer, where, and which variable holds the key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpipe.cli.parsing import FAULT, OK, CommandParser, epilog, examples, exit_codes

if TYPE_CHECKING:
    from llmpipe.cli.console import Console

EPILOG = epilog(
    examples(
        ("llmpipe providers", "the table, with which keys are set here"),
        ("llmpipe providers --json", "the same for a program"),
    ),
    "A provider that is not listed but speaks OpenAI's interface: provider:\nopenai_compatible with base_url, and "
    "api_key_env naming the variable of its key.\nKeys are read from the environment and from the project's .env.",
    exit_codes(OK, FAULT),
)


def parser() -> CommandParser:
    """The parser of `llmpipe providers`."""
    made = CommandParser("providers", summary="List the providers, their addresses and key variables.", epilog=EPILOG)
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Print the table of providers."""
    args = parser().read(words)
    from llmpipe.cli.places import output_folder
    from llmpipe.config.environment import Environment
    from llmpipe.providers.table import PROVIDERS
    from llmpipe.report.figures import Column, table

    environment = Environment.load(output_folder(None).parent)
    rows = [
        {
            "name": row.name,
            "wire": row.wire,
            "base_url": row.base_url,
            "key_variables": list(row.key_vars),
            "key": "set"
            if any(environment.has(v) for v in row.key_vars)
            else "not set"
            if row.needs_key
            else "not needed",
            "schema_mode": row.dialect.schema_mode,
        }
        for row in PROVIDERS.values()
    ]
    if args.json:
        console.json(rows)
        return 0
    console.lines(
        table(
            [
                Column("provider", [str(r["name"]) for r in rows], "left"),
                Column("address", [_address(str(r["name"]), r["base_url"]) for r in rows], "left", widest=52),
                Column("key variable", [" or ".join(PROVIDERS[str(r["name"])].key_vars) or "-" for r in rows], "left"),
                Column("key", [str(r["key"]) for r in rows], "left"),
                Column("schema", [str(r["schema_mode"]) for r in rows], "left"),
            ],
            width=200,
        )
    )
    return 0


def _address(name: str, base_url: object) -> str:
    if base_url:
        return str(base_url)
    return "built in" if name == "echo" else "base_url is needed"
