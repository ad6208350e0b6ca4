"""The `models` of a file: who is asked, with everything that is wrong about it named before a key is looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from llmpipe.config.fallbacks import Fallbacks, name_node, read_fallbacks
from llmpipe.config.fields import Fields, items, names, plain
from llmpipe.config.loading import Loading
from llmpipe.config.modules import check_module
from llmpipe.config.near import did_you_mean, listed, nearest
from llmpipe.config.nodes import Node
from llmpipe.config.policies import read_limits
from llmpipe.config.quantities import fraction, seconds, whole
from llmpipe.errors import Place
from llmpipe.types import EMPTY, Model, Price

_FAULTS = ("rate_limit", "server_error", "timeout", "invalid_json", "schema_violation", "truncated", "refusal")
_ECHO_PARAMS = ("force_error", "latency_s", "faults")
# What only a server obeys. Code of the user's own is given its key by `api_key_env`.
_FOR_SERVERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "echo": ("base_url", "api_key_env", "headers", "schema_mode", "stream", "allow_http"),
        "own": ("base_url", "headers", "schema_mode", "stream", "allow_http"),
    }
)
_NO_SERVER: Mapping[str, str] = MappingProxyType(
    {"echo": "'echo' answers here, without a server", "own": "its provider is code of your own; read it from `extra`"}
)


def read_models(pipeline: Fields, loading: Loading) -> dict[str, Model]:
    """Every model of the file; problems for what cannot be reached or contradicts itself."""
    found: dict[str, Model] = {}
    nodes = dict(pipeline.each("models"))
    for name, node in nodes.items():
        model = _read(name, node, loading)
        if model is not None:
            found[name] = model
    _check_fallbacks(nodes, found, loading)
    _check_gates(nodes, found, loading)
    return found


def _read(name: str, node: Node, loading: Loading) -> Model | None:
    fields = Fields(node, "model", loading.problems)
    provider = fields.get("provider")
    id, base_url = _filled(fields, "model", loading), _filled(fields, "base_url", loading)
    fallback = fields.read("fallback", lambda n: read_fallbacks(n, loading.problems), Fallbacks())
    model = Model(
        name=name,
        provider=str(provider.value) if provider is not None else "",
        model=id if id is not None else name,
        base_url=base_url,
        api_key_env=_key_variable(fields, loading),
        params=read_params(fields.sub("params", "params")),
        limits=read_limits(fields.sub("limits", "limits")),
        fallback=fallback.names,
        fallback_on=MappingProxyType(dict(fallback.words)),
        price=_price(fields.sub("price", "price")),
        headers=MappingProxyType(fields.read("headers", plain, {})),
        schema_mode=fields.read("schema_mode", plain, None),
        allow_http=fields.read("allow_http", plain, False),
        stream=fields.read("stream", plain, None),
    )
    return model if provider is not None and _reachable(model, fields, loading) else None


def provider_places(pipeline: Fields) -> dict[str, Place]:
    """Where each model names its provider."""
    nodes = {name: Fields(node, "model", pipeline.problems).get("provider") for name, node in pipeline.each("models")}
    return {name: node.place for name, node in nodes.items() if node is not None}


def _filled(fields: Fields, key: str, loading: Loading) -> str | None:
    node = fields.get(key)
    return loading.fill(node) if node is not None and node.kind == "str" else None


def _key_variable(fields: Fields, loading: Loading) -> str | None:
    node = fields.get("api_key_env")
    if node is None:
        return None
    name = str(node.value)
    words = set(name.upper().split("_"))
    if not words & {"KEY", "TOKEN", "APIKEY"} or words & {"SECRET", "PASSWORD", "PASSWD", "AWS", "SSH"}:
        note = "only variables named like keys (..._API_KEY, ..._KEY, ..._TOKEN) are ever sent to a provider"
        message = f"'{name}' does not look like the name of a variable with an API key"
        loading.problems.add("P454", message, node, note=note)
    return name


def read_params(fields: Fields) -> Mapping[str, Any]:
    """The parameters by the names that LLMRequest has for them; only those that are set."""
    faults = fields.sub("faults", "faults")
    found: dict[str, Any] = {
        "temperature": fields.read("temperature", plain, None),
        "top_p": fields.read("top_p", plain, None),
        "max_output_tokens": fields.read("max_output_tokens", whole, None),
        "seed": fields.read("seed", lambda n: int(n.value), None),
        "stop": fields.read("stop", names, None),
        "reasoning_effort": fields.read("reasoning_effort", plain, None),
        "extra": fields.read("extra", plain, None),
        "force_error": fields.read("force_error", plain, None),
        "latency_s": fields.read("latency", seconds, None),
        "faults": None,
    }
    shares = {name: faults.read(name, lambda n: fraction(n.value), None) for name in _FAULTS}
    if fields.get("faults") is not None:
        found["faults"] = {name: share for name, share in shares.items() if share is not None}
    return MappingProxyType({name: value for name, value in found.items() if value is not None})


def _price(fields: Fields) -> Price | None:
    if fields.node is None:
        return None
    input, output, cached, write, write_1h = (
        fields.read(name, lambda n: Decimal(n.raw), None)
        for name in ("input", "output", "cached_input", "cache_write", "cache_write_1h")
    )
    return None if input is None or output is None else Price(input, output, cached, write, write_1h)


def _reachable(model: Model, fields: Fields, loading: Loading) -> bool:
    """Whether the provider table can make a target of it."""
    from llmpipe.providers import table

    provider = fields.get("provider")
    if model.provider not in table.PROVIDERS and provider is not None and not table.is_own(model.provider):
        hint, note = did_you_mean(model.provider, table.PROVIDERS), f"providers: {listed(table.PROVIDERS, limit=30)}"
        loading.problems.add("P451", f"there is no provider '{model.provider}'", provider, hint=hint, note=note)
        return False
    if provider is not None and table.is_own(model.provider):
        check_module(provider, loading, what=f"model '{model.name}'", needed=False)
    if not _obeyed(model, fields, loading, table.row_of(model.provider).wire):
        return False
    try:
        table.resolve(model)
    except ValueError as error:
        key = _subject(str(error))
        node = fields.get(key) if key else None
        loading.problems.add(_CODES.get(key or "", "P452"), str(error), node or provider or fields.node)  # type: ignore[arg-type]
        return False
    _check_params(model, fields, loading, table)
    return True


def _obeyed(model: Model, fields: Fields, loading: Loading, wire: str) -> bool:
    """Note the keys that nobody obeys where no server is asked. False if code of one's own is told so.

    They only warn where `--set` named the provider: to try a model out on echo nobody has to take its server away.
    """
    node, provider = fields.node, fields.get("provider")
    assert node is not None
    assert provider is not None
    found = [key for key in _FOR_SERVERS.get(wire, ()) if fields.get(key) is not None]
    for key in found:
        message = f"'{key}' of model '{model.name}' has no effect: {_NO_SERVER[wire]}"
        tell = loading.problems.add if provider.source.path else loading.problems.warn
        tell("C207", message, node.key_place(key), hint="remove it")
    return not found or wire != "own"


_CODES = {"base_url": "P452", "api_key_env": "P453", "headers": "P456", "schema_mode": "P457"}


def _subject(message: str) -> str | None:
    """The key that a refusal of the provider table is about."""
    if "api_key_env" in message and ("sent" in message or message.startswith("api_key_env")):
        return "api_key_env" if "belongs to" in message or message.startswith("api_key_env") else "base_url"
    for word, key in (("header", "headers"), ("schema_mode", "schema_mode"), ("base_url", "base_url")):
        if word in message:
            return key
    return None


def _check_params(model: Model, fields: Fields, loading: Loading, table: Any) -> None:
    node = fields.get("params")
    if node is None or node.kind != "map":
        return
    for name in table.unsupported_parameters(model):
        message = f"'{model.provider}' takes no '{name}'"
        note = "remove it, or send it as the provider spells it under `extra`"
        loading.problems.add("P458", message, node.key_place(name), note=note)
    check_echo_params(model.params, node, table.row_of(model.provider).wire, loading)


def check_echo_params(params: Mapping[str, Any], node: Node, wire: str, loading: Loading) -> None:
    """The parameters that only the embedded provider obeys are refused elsewhere: nothing is accepted and ignored."""
    for name in _ECHO_PARAMS:
        if name in params and wire != "echo":
            key = name.removesuffix("_s")
            loading.problems.add("P458", f"'{key}' works with `provider: echo` only", node.key_place(key))
    total = sum(params.get("faults", EMPTY).values())
    if total > 1:
        loading.problems.add("C204", f"the faults add up to {total * 100:g}%", node.key_place("faults"))


def _check_fallbacks(nodes: Mapping[str, Node], found: Mapping[str, Model], loading: Loading) -> None:
    for name, node in nodes.items():
        key = node.value.get("fallback") if node.kind == "map" else None
        if key is not None:
            check_model_names(key, nodes, loading)
            if name in read_fallbacks(key, loading.problems).names:
                loading.problems.add("C215", f"model '{name}' is its own fallback", key)


def check_model_names(node: Node, known: Mapping[str, Any], loading: Loading) -> None:
    """Note the names of models that are not declared, or stand twice."""
    seen: set[str] = set()
    for entry in filter(None, map(name_node, items(node))):
        name = str(entry.value)
        if name not in known:
            hint, note = did_you_mean(name, known), f"models: {listed(known)}"
            if "/" in name and not hint:
                hint, note = _undeclared(name)
            loading.problems.add("C215", f"there is no model '{name}'", entry, hint=hint, note=note)
        if name in seen:
            loading.problems.add("C206", f"model '{name}' stands twice", entry)
        seen.add(name)


def _undeclared(name: str) -> tuple[str, str]:
    """Hint and note for a model that is named as "provider/model-id": a pipeline declares it under a name first."""
    from llmpipe.providers.table import PROVIDERS

    said, _, id = name.partition("/")
    provider = nearest(said, PROVIDERS) or said
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", id).strip("-._") or "name"
    hint = f"did you mean '{provider}/{id}'?" if provider != said else ""
    return (
        hint,
        f"declare it, `models: {{{own}: {{provider: {provider}, model: {id}}}}}`, and write `model: {own}` here",
    )


def _check_gates(nodes: Mapping[str, Node], found: Mapping[str, Model], loading: Loading) -> None:
    """Models that share an address, a key and an id share a gate, so their limits have to be the same."""
    from llmpipe.providers.table import resolve

    gates: dict[tuple[str, tuple[str, ...], str], Model] = {}
    for name, model in found.items():
        target = resolve(model)
        if target.wire == "echo":
            continue
        first = gates.setdefault((target.origin, target.api_key_envs, target.model), model)
        if first.limits != model.limits:
            note = f"'{first.name}' and '{name}' ask the same model with the same key, so they share their limits"
            message = f"the limits of '{name}' contradict those of '{first.name}'"
            loading.problems.add("P459", message, nodes[name].key_place("limits"), note=note)
