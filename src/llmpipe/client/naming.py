"""What the name of a model means: an entry of the client, "provider/model-id", or a bare name for `echo`."""

from __future__ import annotations

from collections.abc import Mapping

from llmpipe.errors import KeyMissing, ModelUnknown
from llmpipe.providers.table import Target, resolve
from llmpipe.types import Model

EMBEDDED = "echo"


def named(name: str, models: Mapping[str, Model]) -> tuple[Model, Target]:
    """The model of that name and the target of its calls. Raises ModelUnknown, saying what to mend."""
    model = models.get(name)
    if model is None:
        provider, slash, id = name.partition("/")
        model = (
            Model(name=name, provider=provider, model=id) if slash else Model(name=name, provider=EMBEDDED, model=name)
        )
    try:
        return model, resolve(model)
    except ValueError as err:
        unknown = ModelUnknown(f"model '{name}': {err}")
        unknown.sent = False
        raise unknown from err


def missing_key(model: Model, target: Target) -> KeyMissing:
    """The error for a key that is in none of the target's variables, with what to do about it."""
    advice = KeyMissing.advice.rstrip(".")
    return KeyMissing(f"{lacks_key(model, target)}: {advice[0].lower()}{advice[1:]}")


def lacks_key(model: Model, target: Target) -> str:
    """Which variable a model's key was looked for in."""
    return f"model '{model.name}' needs an API key, and {' or '.join(target.api_key_envs)} is not set"
