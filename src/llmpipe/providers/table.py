"""From a model of the pipeline file to the target of its calls: address, key variable, headers and dialect."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from llmpipe.frozen import frozen
from llmpipe.late import late
from llmpipe.providers.address import Address, host_matches, parse_address
from llmpipe.providers.rows import OWN_FIELDS, PROVIDERS, WIRE_MODES, Dialect, Provider, WireName, own_row
from llmpipe.types import EMPTY, Model

__all__ = [
    "PROVIDERS",
    "Dialect",
    "Provider",
    "Target",
    "WireName",
    "is_own",
    "refused_fields",
    "resolve",
    "row_of",
    "unsupported_parameters",
]

_VARIABLE = late(r"^[A-Za-z_][A-Za-z0-9_]*$")
_OWN = late(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", re.ASCII)
_HEADER_NAME = late(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
_HEADER_VALUE = late(r"^[\x20-\x7e]*$")
# Headers that carry keys (which come from api_key_env alone) or that belong to the transport.
_RESERVED_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "accept-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
    }
)


@frozen
class Target:
    """Where a model's calls go and how they are spelt. Holds names of key variables, never a key.

    `base_url` and `origin` are normalised ("" and "echo:" or "own:…" where there is no server); `url` is the endpoint
    (for gemini, the folder of the models). `api_key_envs` are the variables to look the key up in, first hit wins;
    `api_key_env` is the first of them; both are empty / None where no key is sent. `dialect.schema_mode` has the
    model's own `schema_mode` worked in. `headers` have lower-case names and hold no secret.
    """

    provider: str
    row: Provider
    wire: WireName
    base_url: str
    origin: str
    url: str
    model: str
    api_key_env: str | None
    api_key_envs: tuple[str, ...]
    dialect: Dialect
    label: str
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)

    @property
    def needs_key(self) -> bool:
        """Whether a call without a key makes no sense."""
        return bool(self.api_key_envs)


def resolve(model: Model) -> Target:
    """The target of a model's calls. Raises ValueError with one sentence (no full stop) that says what to mend.

    A key's variable is bound to the hosts of the provider that it belongs to: a `base_url` elsewhere needs a variable
    of its own (facts D4); loopback may be given any.
    """
    row = row_of(model.provider)
    if not model.model.strip():
        raise ValueError(f"model '{model.name}' names no model id")
    dialect = _dialect(row, model)
    headers = _headers(row, model)
    if row.wire == "echo":
        return _target(row, model, dialect=dialect, headers=headers, address=None, variables=())
    if row.wire == "own":
        _refuse_transport(model)
        own = () if model.api_key_env is None else (_variable(model.api_key_env),)
        return _target(row, model, dialect=dialect, headers={}, address=None, variables=own)
    text = row.base_url if model.base_url is None else model.base_url
    if text is None:
        raise ValueError(f"provider '{row.name}' needs a base_url, for example {row.example_url}")
    address = parse_address(text, allow_http=model.allow_http)
    variables = _key_variables(row, model, address)
    return _target(row, model, dialect=dialect, headers=headers, address=address, variables=variables)


def unsupported_parameters(model: Model) -> tuple[str, ...]:
    """The parameters set on `model` that its provider has no field for (facts A2), in order."""
    wrong = row_of(model.provider).dialect.unsupported
    return tuple(name for name, value in model.params.items() if name in wrong and value not in (None, (), []))


def refused_fields(extra: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in `extra`, or in a `generationConfig` in it, that llmpipe sends itself and nobody may override."""
    nested = extra.get("generationConfig")
    names = (*extra, *(nested if isinstance(nested, Mapping) else ()))
    return tuple(sorted(OWN_FIELDS.intersection(names)))


def is_own(provider: str) -> bool:
    """Whether `provider` names code, as "module:object"."""
    return _OWN.match(provider) is not None


def row_of(name: str) -> Provider:
    """The row of a provider. Raises ValueError with the names there are."""
    row = own_row(name) if is_own(name) else PROVIDERS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, PROVIDERS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ValueError(f"there is no provider '{name}'; {hint}there are: {', '.join(PROVIDERS)}")
    return row


def _dialect(row: Provider, model: Model) -> Dialect:
    wanted = model.schema_mode
    if wanted is None:
        return row.dialect
    modes = WIRE_MODES[row.wire]
    mode = modes[0] if wanted == "native" else wanted
    if mode not in modes:
        allowed = ", ".join(["native", *modes[1:]])
        raise ValueError(f"provider '{row.name}' has no schema_mode '{wanted}'; it has: {allowed}")
    return replace(row.dialect, schema_mode=mode)


def _headers(row: Provider, model: Model) -> dict[str, str]:
    headers = dict(row.headers)
    for name, value in model.headers.items():
        if name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"header '{name}' may not be set: keys come from `api_key_env`, the rest is the client's")
        if not _HEADER_NAME.match(name) or not _HEADER_VALUE.match(value):
            raise ValueError(f"header '{name}' has characters that a header cannot hold")
        headers[name.lower()] = value
    return dict(sorted(headers.items()))


def _key_variables(row: Provider, model: Model, address: Address) -> tuple[str, ...]:
    at_home = _at_home(address, row.key_hosts)
    named = model.api_key_env
    if named is None:
        if at_home or (row.needs_key and address.loopback):
            return row.key_vars
        if row.needs_key:
            raise ValueError(
                f"{address.origin} is not an address of '{row.name}', so {row.key_vars[0]} is not sent there: "
                "name the variable of that server's own key with `api_key_env`"
            )
        return ()
    homes = _HOMES.get(_variable(named))
    if homes is not None and not address.loopback and not _at_home(address, homes):
        raise ValueError(
            f"{named} belongs to {homes[0].lstrip('.')} and is not sent to {address.origin}: "
            "put that server's own key into another variable and name it with `api_key_env`"
        )
    return (named,)


def _variable(name: str) -> str:
    if not _VARIABLE.match(name):
        raise ValueError("api_key_env must be the name of an environment variable, not the key itself")
    return name


def _refuse_transport(model: Model) -> None:
    """Code of one's own makes its connections itself, so nothing may be said about them that would be ignored."""
    said = {
        "base_url": model.base_url is not None,
        "headers": bool(model.headers),
        "schema_mode": model.schema_mode is not None,
        "stream": model.stream is not None,
        "allow_http": model.allow_http,
    }
    for name, is_set in said.items():
        if is_set:
            raise ValueError(
                f"provider '{model.provider}' is code of your own and takes no {name}; read it from `extra`"
            )


def _at_home(address: Address, hosts: tuple[str, ...]) -> bool:
    return address.origin.startswith("https:") and host_matches(address.host, hosts)


def _homes() -> dict[str, tuple[str, ...]]:
    homes: dict[str, tuple[str, ...]] = {}
    for row in PROVIDERS.values():
        for variable in row.key_vars:
            homes[variable] = (*homes.get(variable, ()), *row.key_hosts)
    return homes


_HOMES = _homes()


def _target(
    row: Provider,
    model: Model,
    *,
    dialect: Dialect,
    headers: Mapping[str, str],
    address: Address | None,
    variables: tuple[str, ...],
) -> Target:
    return Target(
        provider=row.name,
        row=row,
        wire=row.wire,
        base_url=address.base + address.query if address else "",
        origin=address.origin if address else f"{row.wire}:{row.name if row.wire == 'own' else ''}",
        url=address.join(row.path) if address else "",
        model=model.model,
        api_key_env=variables[0] if variables else None,
        api_key_envs=variables,
        dialect=dialect,
        label=model.label,
        headers=headers,
    )
