"""The list of commands: a name, the module that does it, and one line for the overview."""

from __future__ import annotations

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("init", "init", "write a small project that runs at once, without a key"),
    ("validate", "validate", "say everything that is wrong with a pipeline file; nothing is sent"),
    ("plan", "plan", "say what a run would do, and what it would cost; nothing is sent"),
    ("run", "run", "run a pipeline"),
    ("runs", "runs", "list earlier runs, remove them"),
    ("show", "show", "look at a run, a step of it, or one item's whole story"),
    ("cache", "cache", "how large the cache of answers is; make it smaller"),
    ("providers", "providers", "list the providers, their addresses and key variables"),
    ("schema", "schema", "print the JSON Schema of pipeline files; expand a short schema"),
    ("explain", "explain", "explain an error code"),
)

OVERVIEW = """\
llmpipe - make for LLM calls: pipelines in YAML, run through one reliable client

usage: llmpipe COMMAND ...

commands:
{commands}

  llmpipe COMMAND --help    flags, examples and exit codes of a command
  llmpipe --version

start here:
  llmpipe init hello && cd hello && llmpipe run pipelines/hello.yaml

exit codes:
  0    the contract was met          4    a key is missing or refused
  1    a step or too many items      6    stopped by its budget or deadline
       failed                        75   temporary: run it again
  2    bad usage or file; nothing    130, 143  interrupted
       was sent                      3    a fault of llmpipe itself"""


def overview() -> str:
    """The text of `llmpipe --help`."""
    return OVERVIEW.format(commands="\n".join(f"  {name:<10} {summary}" for name, _module, summary in COMMANDS))
