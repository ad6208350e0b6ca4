"""What a step's output must hold: its schema, its checks, the lists that other steps run over, its size."""

from __future__ import annotations

from typing import Any

from llmpipe.config.pipeline import Pipeline, Step
from llmpipe.config.templates import Expression
from llmpipe.errors import CheckFailed, ItemError, SchemaMismatch

Paths = tuple[tuple[str, ...], ...]


class Demands:
    """The demands of one step."""

    def __init__(self, pipeline: Pipeline, step: Step) -> None:
        self._step = step
        self._lists = _lists_to_fan_out(pipeline, step)

    def unmet(self, output: Any, names: dict[str, Any]) -> str | None:
        """The demands beside the schema that are not met, in words for people and models; None if all are."""
        missing = self._missing_list(output)
        if missing:
            return missing
        scope = {**names, "output": output}
        wrong = [said for check in self._step.checks if (said := _wrong(check, scope)) is not None]
        return "; ".join(wrong) or None

    async def require(self, output: Any, names: dict[str, Any]) -> None:
        """Raise ItemError for an output that no model made: O503 schema, D320 missing list, O504 check."""
        found = await self._step.schema.violations_async(output) if self._step.schema is not None else []
        if found:
            raise ItemError("; ".join(f"{v.path} {v.message}" for v in found[:3]), code=SchemaMismatch.code)
        missing = self._missing_list(output)
        if missing:
            raise ItemError(missing, code="D320")
        unmet = self.unmet(output, names)
        if unmet:
            raise ItemError(unmet, code=CheckFailed.code)

    def require_size(self, text: str) -> None:
        """Raise ItemError D311 for a rendered text over `max_prompt`: it is never cut."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > self._step.max_prompt:
            message = f"the rendered text has {size:,} bytes, more than max_prompt ({self._step.max_prompt:,})"
            raise ItemError(message, code="D311")

    def _missing_list(self, output: Any) -> str | None:
        for path in self._lists:
            if not isinstance(_at(output, path), list):
                return f"output.{'.'.join(path)} must be a list, because another step runs over its elements"
        return None


def _wrong(check: Expression, scope: dict[str, Any]) -> str | None:
    """What is wrong about an output by one check: the expression, and what it found; None if it holds."""
    try:
        if check.test(scope):
            return None
    except ItemError as err:
        return f"the check `{check.source}` could not be evaluated: {err}"
    paths = dict.fromkeys(read.path for read in check.reads if read.path[0] == "output")
    found = [f"{'.'.join(path)} is {_shown(value)}" for path in paths if (value := _at(scope, path)) is not None]
    return f"the check `{check.source}` does not hold" + (f": {', '.join(found)}" if found else "")


def _shown(value: Any) -> str:
    from llmpipe.structured.violations import show

    return show(value)


def _lists_to_fan_out(pipeline: Pipeline, step: Step) -> Paths:
    """The paths in this step's output that other steps run over."""
    wanted = {s.scope for s in pipeline.steps}
    for id in list(wanted):
        at = pipeline.scopes[id].parent
        while at is not None:
            wanted.add(at)
            at = pipeline.scopes[at].parent
    scopes = pipeline.scopes.values()
    return tuple(s.path for s in scopes if s.kind == "fanout" and s.step == step.id and s.id in wanted)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
