"""Refuses the keys of a step that would be accepted and ignored: nothing of the kind is let through."""

from __future__ import annotations

from llmpipe.config.answers import ANSWER_KEYS
from llmpipe.config.loading import Loading
from llmpipe.config.scopes import Draft

_MODEL_ONLY = ("model", "samples", "system", "params", "fallback", "retry", "cache", *ANSWER_KEYS)
_WITHOUT_EFFECT = {
    "model": (),
    "render": (*_MODEL_ONLY, "schema", "timeout"),
    "python": (*_MODEL_ONLY, "max_prompt"),
}
_CLOCKS_OF_A_CONNECTION = ("connect", "first_token", "idle")


def refuse_useless(draft: Draft, kind: str, loading: Loading) -> None:
    """Note every key of the step, of this kind, that would do nothing."""
    asks = {"render": "fills a template and asks nobody", "python": "calls Python code and asks nobody"}.get(kind, "")
    for key in _WITHOUT_EFFECT[kind]:
        if key in draft.node.value:
            message = f"'{key}' has no effect: step '{draft.id}' {asks}"
            loading.problems.add("C207", message, draft.node.key_place(key), hint="remove it")
    clocks = draft.fields.get("timeout")
    for key in _CLOCKS_OF_A_CONNECTION if kind == "python" and clocks is not None and clocks.kind == "map" else ():
        if clocks is not None and key in clocks.value:
            message = f"'{key}' of 'timeout' has no effect: step '{draft.id}' {asks}"
            loading.problems.add("C207", message, clocks.key_place(key), hint="remove it")
