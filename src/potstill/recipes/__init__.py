"""The recipes that ship, each runnable by name."""
