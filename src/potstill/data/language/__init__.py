"""Texts for language models: documents, instructions and conversations as rows of tokens."""

from potstill.data.language.reading import OPTIONS, read_columns, read_documents

__all__ = ["OPTIONS", "read_columns", "read_documents"]
