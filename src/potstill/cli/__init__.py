"""The command line. Each command is a file: it parses, calls one verb and prints."""

from potstill.cli.main import main

__all__ = ["main"]
