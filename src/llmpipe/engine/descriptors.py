"""The files that a run may have open at once: as many as its calls need, or else fewer calls in flight."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from llmpipe.client.limiter import AUTO_MOST
from llmpipe.local_faults import open_files_limit, out_of_resources, raise_open_files_limit
from llmpipe.providers.table import resolve
from llmpipe.types import Model

OTHERS = 40  # streams, ledger, cache, lock, log, data, event loop, and files that threads write
_LEAST = 16  # of them, besides the streams and the lock, with one call at a time


def with_descriptors(models: Mapping[str, Model], note: Callable[[str], None]) -> Mapping[str, Model]:
    """The models with no more calls in flight than this process may have connections.

    The limit on open files is raised first, as far as the system lets a process do that itself.
    """
    asking = {name: model for name, model in models.items() if resolve(model).wire != "echo"}
    wanted = {name: model.limits.concurrency or AUTO_MOST for name, model in asking.items()}
    needed = OTHERS + sum(wanted.values())
    with contextlib.suppress(OSError, ValueError):
        raise_open_files_limit(needed)
    limit = open_files_limit()
    if not limit or limit >= needed:
        return models
    room = max(0, limit - OTHERS)
    most = {name: max(1, room * count // sum(wanted.values())) for name, count in wanted.items()}
    fewer = [name for name, model in asking.items() if (model.limits.concurrency or 0) > most[name]]
    if fewer:
        listed = ", ".join(f"{name} {most[name]} instead of {wanted[name]}" for name in fewer)
        note(f"fewer calls at once, since ulimit -n is {limit} ({needed} would do): {listed}")
    limited = {n: replace(m, limits=replace(m.limits, most=most[n])) for n, m in asking.items()}
    return {**models, **limited}


def require_descriptors() -> None:
    """Raise OutOfResources if this process cannot open the files that a run with one call at a time needs."""
    with contextlib.suppress(OSError, ValueError):
        raise_open_files_limit(OTHERS)
    taken: list[int] = []
    try:
        taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(_LEAST))
    except OSError as err:
        raise out_of_resources(err) or err from None
    finally:
        for number in taken:
            os.close(number)
