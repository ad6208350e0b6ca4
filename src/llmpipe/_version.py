"""The version, written once: packaging, `--version` and run records read it here."""

__version__ = "0.1.0"
