"""Where things that are worth remembering between runs lie."""

import os
from pathlib import Path


def speed_cache() -> Path:
    """The file with measured speeds, in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    folder = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    return folder / "potstill" / "speed.json"
