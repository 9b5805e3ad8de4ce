"""`measure.json` in a run folder: the figures of its models, on this machine and on others."""

from collections.abc import Sequence
from pathlib import Path

from potstill.measure.profile import DeviceProfile
from potstill.runtime.files import read_json, write_json

RECORD = "measure.json"


def keep(run: Path, here: DeviceProfile, others: Sequence[DeviceProfile] = ()) -> Path:
    """Write the profiles into a run folder; one that was there of a device by another name stays.

    Returns:
        The file.
    """
    path = run / RECORD
    new = [here, *others]
    names = {profile.name for profile in new}
    old = [profile for profile in kept(run) if profile.name not in names]
    write_json(path, {"devices": [profile.to_json() for profile in (*new, *old)]})
    return path


def kept(run: Path) -> list[DeviceProfile]:
    """The profiles in a run folder, the newest first; none if nothing was measured."""
    path = run / RECORD
    if not path.is_file():
        return []
    devices = read_json(path).get("devices")
    found = devices if isinstance(devices, list) else []
    return [DeviceProfile.from_json(each, str(path)) for each in found]
