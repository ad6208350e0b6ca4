"""The layers around a request: one concern a file, handler in, handler out; their order stands in client/stack.py."""
