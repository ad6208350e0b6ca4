"""One request, reliably: the client, its stack of layers, and what the layers work with."""
