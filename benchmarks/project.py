"""The pipeline that the benchmarks run, and the request that it makes of each row."""

from __future__ import annotations

import json
from pathlib import Path

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "integer"}, "why": {"type": "string"}},
    "required": ["label", "score", "why"],
    "additionalProperties": False,
}
SYSTEM = "You label support tickets."
PROMPT = "Label this ticket.\n"
PIPELINE = """\
version: 1
name: bench
datasets:
  tickets: {{path: data.jsonl, key: id}}
models:
  served:
    provider: openai_compatible
    base_url: {url}
    model: bench
    params: {{max_output_tokens: 400}}
    limits: {{concurrency: {in_flight}}}
steps:
  - id: label
    foreach: datasets.tickets
    model: served
    system: {system}
    prompt: |
      Label this ticket.
      {{{{ item.body }}}}
    schema: {schema}
"""


def text_of(number: int) -> str:
    """The text of a ticket, about 400 characters, different in each row."""
    return f"Ticket {number}: " + "the invoice of last month shows an amount that I do not know. " * 6


def body_of(number: int) -> bytes:
    """The request body that llmpipe sends for a row, near enough."""
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT + text_of(number)}]
    answer = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    return json.dumps({"model": "bench", "messages": turns, "max_tokens": 400, "response_format": answer}).encode()


def write_project(folder: Path, url: str, calls: int, in_flight: int) -> Path:
    """Write the pipeline and its rows below `folder`; returns the pipeline's path."""
    pipelines = folder / "pipelines"
    pipelines.mkdir(parents=True)
    with (pipelines / "data.jsonl").open("w", encoding="utf-8") as rows:
        for number in range(calls):
            rows.write(json.dumps({"id": f"t{number}", "body": text_of(number)}) + "\n")
    path = pipelines / "bench.yaml"
    text = PIPELINE.format(url=url, in_flight=in_flight, system=SYSTEM, schema=json.dumps(SCHEMA))
    path.write_text(text, encoding="utf-8")
    return path
