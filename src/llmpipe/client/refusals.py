"""Which output schemas providers have refused to be asked for natively: learned once, then known to all calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from llmpipe.errors import CallFailed, SchemaRejected
from llmpipe.providers.asked import native_name

if TYPE_CHECKING:
    from llmpipe.client.call import Call
    from llmpipe.providers.table import Target
    from llmpipe.types import LLMRequest, Model

Name: TypeAlias = tuple[str, str | None, str, str]  # address, key variable, model id, what is asked natively


class NativeRefused(CallFailed):
    """The provider does not take natively what it was asked for. Never leaves the client: the prompt is left to try."""

    title = SchemaRejected.title


class Refusals:
    """The refusals that a client has met. `note` is told of each in one sentence.

    They are forgotten with the client: a provider may have learned what it refused, and asking again costs one request
    that is not billed.
    """

    def __init__(self, note: Callable[[str], None] | None = None) -> None:
        self._words: dict[Name, str] = {}
        self._note = note

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, name: object) -> bool:
        return name in self._words

    def add(self, name: Name, model: Model, error: CallFailed) -> bool:
        """Learn of a refusal. False if it was known."""
        if name in self._words:
            return False
        self._words[name] = error.message
        if self._note is not None:
            self._note(
                f"{model.label} was asked for an output schema natively and refused it; it is asked for in the prompt "
                f"instead, and answers are validated as always ({error.message})"
            )
        return True

    def words(self, request: LLMRequest, model: Model, target: Target) -> str | None:
        """What the provider said when it refused the schema of a request; None if it has not."""
        name = name_of(request, model, target)
        return None if name is None else self._words.get(name)


def name_of(request: LLMRequest, model: Model, target: Target) -> Name | None:
    """What a refusal of the request's schema would be known by.

    None where nothing is asked for natively, and where the user has said how it is to be asked for (`schema_mode`):
    what he fixed is not changed behind his back.
    """
    if request.schema is None or model.schema_mode is not None:
        return None
    native = native_name(request, target)
    return None if native is None else (target.url, target.api_key_env, target.model, native)


def refusal_of(call: Call) -> Name | None:
    """`name_of` for a call."""
    return name_of(call.request, call.model, call.target)
