"""Numbers in code, the shortest way."""


def number_as_written(value: float) -> str:
    """`4` for 4.0, `0.1` for 0.1: the shortest text that reads back as the same number."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e16 else repr(value)
