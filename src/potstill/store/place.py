"""Where a store lies: a folder, or any address that fsspec opens. Files are whole or absent."""

import mmap
import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

import numpy as np
from numpy.typing import NDArray

from potstill.errors import MissingExtra, StorageError, need
from potstill.runtime.files import storing, take_lock, write_with

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Bytes = NDArray[np.uint8]


class Lock(Protocol):
    """Held until it is closed."""

    def close(self) -> None:
        """Let others write."""
        ...


class Place(ABC):
    """A flat folder of files, somewhere. `name` is how people call it."""

    name: str

    @abstractmethod
    def read(self, file: str) -> bytes | None:
        """A file whole; `None` if there is none."""

    @abstractmethod
    def write(self, file: str, parts: Sequence[memoryview | bytes]) -> None:
        """Put a file there, whole or not at all."""

    @abstractmethod
    def map(self, file: str) -> Bytes | None:
        """A file's bytes, read when they are touched; `None` if there is none."""

    @abstractmethod
    def remove(self, file: str) -> None:
        """Take a file away, if it is there."""

    @abstractmethod
    def files(self) -> list[str]:
        """Names, sorted."""

    @abstractmethod
    def lock(self) -> Lock:
        """Keep other writers out.

        Raises:
            StorageError: another process is writing.
        """

    def refusal(self) -> str:
        """What a second writer is told."""
        return (
            f"Another process is writing the store {self.name}. "
            "Wait for it, or give this one another --out."
        )


def place(where: Path | str) -> Place:
    """The place that a path or an address (`s3://bucket/store`, `memory://store`) names."""
    if isinstance(where, str) and "://" in where and not where.startswith("file://"):
        return Remote(where)
    return Local(Path(str(where).removeprefix("file://")))


@final
class Local(Place):
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)

    def read(self, file: str) -> bytes | None:
        """See `Place`."""
        with _reading(self.folder / file):
            try:
                return (self.folder / file).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, file: str, parts: Sequence[memoryview | bytes]) -> None:
        """A temporary file, brought to the disk, then renamed."""

        def fill(temporary: Path) -> None:
            with temporary.open("wb") as handle:
                for part in parts:
                    handle.write(part)
                handle.flush()
                os.fsync(handle.fileno())

        write_with(self.folder / file, fill)

    def map(self, file: str) -> Bytes | None:
        """A memory map: pages are read when they are touched."""
        with _reading(self.folder / file):
            try:
                handle = (self.folder / file).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                return None
            with handle:
                if not os.fstat(handle.fileno()).st_size:
                    return np.empty(0, np.uint8)  # which cannot be mapped
                mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.uint8)

    def remove(self, file: str) -> None:
        """See `Place`."""
        with storing(self.folder / file):
            (self.folder / file).unlink(missing_ok=True)

    def files(self) -> list[str]:
        """See `Place`."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir())

    def lock(self) -> Lock:
        """A lock of the operating system: it ends with the process, however that ends."""
        return take_lock(self.folder, refusal=self.refusal())


@final
class Remote(Place):
    """A folder behind an fsspec address. Shards that are read are kept in a temporary folder."""

    def __init__(self, address: str) -> None:
        self.name = address.rstrip("/")
        self._cache: Path | None = None
        with _reaching(self.name):
            self._system, self._root = _filesystem(self.name)

    def read(self, file: str) -> bytes | None:
        """See `Place`."""
        with _reaching(self.name):
            try:
                return bytes(self._system.cat_file(self._path(file)))
            except FileNotFoundError:
                return None

    def write(self, file: str, parts: Sequence[memoryview | bytes]) -> None:
        """One upload, which object stores take whole or not at all."""
        with _reaching(self.name):
            self._system.makedirs(self._root, exist_ok=True)
            self._system.pipe_file(self._path(file), b"".join(bytes(part) for part in parts))

    def map(self, file: str) -> Bytes | None:
        """A memory map of a copy that is fetched once."""
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="potstill-store-"))
            weakref.finalize(self, shutil.rmtree, self._cache, ignore_errors=True)
        copy = self._cache / file
        with _reaching(self.name):
            if not self._system.exists(self._path(file)):
                return None
            with self._system.open(self._path(file), "rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        return Local(self._cache).map(file)

    def remove(self, file: str) -> None:
        """See `Place`."""
        with _reaching(self.name):
            if self._system.exists(self._path(file)):
                self._system.rm_file(self._path(file))

    def files(self) -> list[str]:
        """See `Place`."""
        with _reaching(self.name):
            try:
                listed = self._system.ls(self._root, detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in listed)

    def lock(self) -> Lock:
        """A file that says who is writing; it must be deleted by hand after a crash."""
        path = self._path("writing.lock")
        about = f"{os.uname().nodename if hasattr(os, 'uname') else ''} process {os.getpid()}"
        with _reaching(self.name):
            self._system.makedirs(self._root, exist_ok=True)
            try:
                self._system.pipe_file(path, about.encode(), mode="create")
            except FileExistsError as error:
                owner = bytes(self._system.cat_file(path)).decode(errors="replace")
                raise StorageError(
                    f"{self.refusal()} It is {owner.strip()}; if that has died, "
                    f"delete {self.name}/writing.lock."
                ) from error
        return _RemoteLock(self)

    def _path(self, file: str) -> str:
        return f"{self._root}/{file}"


@final
class _RemoteLock:
    def __init__(self, place: Remote) -> None:
        self._place: Remote | None = place

    def close(self) -> None:
        if self._place is not None:
            self._place.remove("writing.lock")
            self._place = None


def _filesystem(address: str) -> "tuple[AbstractFileSystem, str]":
    fsspec = need("fsspec", extra="remote")
    try:
        system, root = fsspec.core.url_to_fs(address)
    except ImportError as error:  # fsspec names the package: "Install s3fs to access S3"
        raise MissingExtra(f"{address} cannot be opened: {error}.") from error
    return system, str(root).rstrip("/")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror or error}). Check the path."
        ) from error


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(
            f"{address} cannot be reached ({said}). Check the address and your credentials."
        ) from error
