"""A teacher's signals, written once and replayed."""
