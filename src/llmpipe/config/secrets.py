"""Keys that were written into a file by mistake: found by their look, and never shown again."""

from __future__ import annotations

import re

from llmpipe.config.nodes import Node
from llmpipe.config.problems import Problems
from llmpipe.late import late

# The forms that providers and code hosts document for their keys, long enough that words do not match.
_LOOKS = late(
    r"""(?<![A-Za-z0-9_-])(?:
        sk-(?:[A-Za-z]+-)*[A-Za-z0-9_-]{16,}      # OpenAI, Anthropic, OpenRouter, DeepSeek
      | gsk_[A-Za-z0-9]{20,} | xai-[A-Za-z0-9]{20,} | hf_[A-Za-z0-9]{20,} | r8_[A-Za-z0-9]{20,}
      | AIza[0-9A-Za-z_-]{30,}                     # Google
      | A(?:KIA|SIA)[0-9A-Z]{16}                   # AWS
      | gh[pousr]_[A-Za-z0-9]{30,} | github_pat_[A-Za-z0-9_]{30,} | glpat-[A-Za-z0-9_-]{18,}
      | xox[abpr]-[A-Za-z0-9-]{10,}                # Slack
      | eyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{10,}
      | (?i:bearer)\s+[A-Za-z0-9._~+/-]{20,}
      | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
    )""",
    re.VERBOSE,
)
_NAMED = late(
    r"(?i)((?:api[-_]?key|secret|password|passwd|token|authorization)[\"']?\s*[:=]\s*)([\"']?)([^\s\"',}]{4,}[^\"',}]*)"
)
_NOTE = "put it into an environment variable or .env (which git ignores), name that under `api_key_env`, and revoke it"


def refuse_secrets(root: Node, problems: Problems) -> None:
    """Note every text of the document that looks like a key, and spoil it where it is nothing else."""
    told = {(p.place.file, p.place.line) for p in problems.errors if p.code == "P455"}
    for node in root.walk():
        if node.kind != "str" or (node.source.file, node.place.line) in told:
            continue
        match = _LOOKS.search(node.value)
        if match is not None and not _is_sample(match.group()):
            place = node.locate_offset(match.start(), len(match.group()))
            problems.add(
                "P455", "this looks like a secret; secrets have no place in a pipeline file", place, note=_NOTE
            )
            if match.group() == node.value:
                node.spoil()


def mask(line: str) -> str:
    """A line of a file with everything that looks like a secret made unreadable, its length kept."""
    line = _LOOKS.sub(lambda m: "*" * len(m.group()), line)
    return _NAMED.sub(lambda m: m.group(1) + m.group(2) + "*" * len(m.group(3)), line)


def _is_sample(text: str) -> bool:
    """Words such as `sk-something-like-this-word` or `sk-xxxxxxxx` are not keys: those mix digits into letters."""
    body = text.split("-", 1)[-1]
    return text.startswith("sk-") and not (any(c.isdigit() for c in body) and len(set(body)) > 6)
