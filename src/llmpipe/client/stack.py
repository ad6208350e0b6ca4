"""The order of the layers around one request: this list, and nothing else decides it.

Outermost first, and why it stands where it stands (design 5):

    traced           gives the call its lines in the log, whatever happens below
    fallback         another model is another request with its own key: outside the cache
    told             so is the same model with the schema in its prompt; tried before another model is
    single_flight    outside the cache, so that two equal requests in flight cannot both miss it
    recalled         what this run wrote down before it was killed
    (replayed        recorded exchanges stand here, between recalled and cached)
    cached
    total_timeout    over all attempts and their waits, from the first admission on
    retried          outside the limiter: a wait holds no place in it, and a 429 holds back everybody
    limited          concurrency, rate, hold and breaker of the gate
    rechecked        whether an answer is still to be bought, should the process have stood still
    tried            whether a schema is taken: within the gate, so that those who waited there hear of it
    budgeted         after the gate, so that waiting calls reserve nothing
    journalled       intent before, outcome after; each pass is one attempt
    attempt_timeout  after the gate, so that queueing never counts
    provider         the exchange itself: LLMClient._provider_call
"""

from __future__ import annotations

from llmpipe.client.call import Deps, Handler, Layer
from llmpipe.client.layers.attempt_timeout import attempt_timeout
from llmpipe.client.layers.budgeted import budgeted
from llmpipe.client.layers.cached import cached
from llmpipe.client.layers.fallback import fallback
from llmpipe.client.layers.journalled import journalled
from llmpipe.client.layers.limited import limited
from llmpipe.client.layers.recalled import recalled
from llmpipe.client.layers.rechecked import rechecked
from llmpipe.client.layers.retried import retried
from llmpipe.client.layers.single_flight import single_flight
from llmpipe.client.layers.told import told
from llmpipe.client.layers.total import total_timeout
from llmpipe.client.layers.traced import traced
from llmpipe.client.layers.tried import tried

LAYERS: tuple[Layer, ...] = (
    traced,
    fallback,
    told,
    single_flight,
    recalled,
    cached,
    total_timeout,
    retried,
    limited,
    rechecked,
    tried,
    budgeted,
    journalled,
    attempt_timeout,
)


def build_stack(provider: Handler, deps: Deps, layers: tuple[Layer, ...] | None = None) -> Handler:
    """The layers (LAYERS) around `provider`, the innermost handler, which makes one exchange."""
    handler = provider
    for layer in reversed(LAYERS if layers is None else layers):
        handler = layer(handler, deps)
    return handler
