"""The places to which a run is written: a local folder, or any store that fsspec knows (s3://, gs://, memory://).

A file appears complete or not at all. A local file is written aside, synced and renamed, and its folder is synced; a store shows an object
when all of it has been uploaded.
"""

from __future__ import annotations

import os
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["Target", "open_target"]

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_ASIDE = re.compile(r"\..+\.\d+\.tmp")  # of `_Local._aside`: .NAME.HOST.PROCESS.tmp


class Target(ABC):
    """A folder of files by their names, such as "samples/00000000.tar". `open_target` makes one."""

    url: str  # as it was given, for messages

    @property
    def address(self) -> str:
        """The address by which another process finds the target."""
        return self.url

    @abstractmethod
    def check(self) -> None:
        """Raise ValueError or OSError if the target cannot be written to. Nothing is changed."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes of the files in a folder and its subfolders by name; an empty dict if the folder does not exist."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Return whether a file exists."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of many small files, in parallel if a store can. Files that do not exist are left out."""
        found = ((name, self.read(name)) for name in names)
        return {name: content for name, content in found if content is not None}

    def remove_all(self, names: Sequence[str]) -> None:
        """Remove many files."""
        for name in names:
            self.remove(name)

    @abstractmethod
    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        """Write a file, complete or not at all. With lasting=True it is on the disk when this returns."""

    @abstractmethod
    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for large content. It appears when the block ends."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file. A file that does not exist is no error."""

    @abstractmethod
    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for one run, and create it if it does not exist. Raise ValueError if another run holds it."""

    @abstractmethod
    def sweep(self, folders: Sequence[str]) -> None:
        """Remove what killed processes left: unfinished files beside the manifest and in the named folders, and empty folders in those.

        Nothing else is touched: the folder of a run may hold files of its user.
        """


def open_target(out: str | Path) -> Target:
    """Return the target of a path or URL.

    Raises:
        ValueError: the name is empty, or fsspec does not know the protocol.
        ImportError: fsspec, or its package for a protocol, is missing.
    """
    text = str(out)
    if not text.strip():
        raise ValueError("out is empty: name a folder, or a URL such as s3://bucket/folder")
    if text.startswith("file://"):
        return _Local(Path(text.removeprefix("file://")))
    return _Store(text) if _URL.match(text) else _Local(Path(text))


class _Local(Target):
    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder.expanduser().absolute(), str(folder)

    @property
    def address(self) -> str:
        return str(self.folder)

    def check(self) -> None:
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not there.is_dir():
            raise ValueError(f"out {self.url}: {there} is a file: name a folder")
        # A file system that is mounted for reading tells here, where permissions do not.
        read_only = os.statvfs(there).f_flag & os.ST_RDONLY if hasattr(os, "statvfs") else 0
        if read_only or not os.access(there, os.W_OK | os.X_OK):
            raise ValueError(f"out {self.url}: the folder {there} cannot be written to")

    def sizes(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        waiting = [folder]
        while waiting:
            inside = waiting.pop()
            with suppress(FileNotFoundError), os.scandir(self.folder / inside) as entries:
                for entry in entries:
                    name = f"{inside}/{entry.name}" if inside else entry.name
                    if entry.is_dir():
                        waiting.append(name)
                    elif not _ASIDE.fullmatch(entry.name):
                        found[name] = entry.stat().st_size
        return found

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        with self._aside(name, lasting) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with self._aside(name, True) as file:
            yield file

    @contextmanager
    def _aside(self, name: str, lasting: bool) -> Iterator[IO[bytes]]:
        path = self.folder / name
        self._make(path.parent)
        aside = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                if lasting:
                    os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        if lasting:
            _sync(path.parent)

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self.folder:
            self._make(folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        _sync(folder.parent)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        try:
            import fcntl
        except ImportError:  # Windows
            self._make(self.folder)
            yield
            return
        self._make(self.folder)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"out {self.url}: another run is at work in this folder: wait for its end, or stop it"
                ) from None
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(handle)

    def sweep(self, folders: Sequence[str]) -> None:
        own = [entry.name for entry in os.scandir(self.folder) if entry.is_file()]
        walked = (each for name in folders for each in os.walk(self.folder / name, topdown=False))
        for folder, _, files in (*walked, (str(self.folder), [], own)):
            for file in files:
                if _ASIDE.fullmatch(file):
                    Path(folder, file).unlink(missing_ok=True)
            if Path(folder) != self.folder:
                with suppress(OSError):  # not empty
                    os.rmdir(folder)


class _Store(Target):
    def __init__(self, url: str) -> None:
        self.url = url
        try:
            import fsspec
        except ImportError as error:
            raise ImportError(f"out {url}: URLs need fsspec ({error}): pip install 'dpmsolver[generate]'") from error
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except ValueError as error:
            raise ValueError(f"out {url}: {_one_line(error)}") from error
        except ImportError as error:
            raise ImportError(f"out {url}: {_one_line(error)}") from error
        self.root = self.root.rstrip("/")

    def check(self) -> None:
        try:
            self.fs.invalidate_cache()
            with suppress(FileNotFoundError):
                self.fs.ls(self.root, detail=False)
            self._require_bucket()
        except FileNotFoundError:
            raise ValueError(f"out {self.url}: there is no bucket {self.root.split('/')[0]!r}") from None
        except Exception as error:  # each store has errors of its own
            raise ValueError(
                f"out {self.url} cannot be reached ({type(error).__name__}: {_one_line(error)})"
            ) from error

    def _require_bucket(self) -> None:
        if "/" in self.root and not self.root.startswith("/"):
            self.fs.ls(self.root.split("/")[0], detail=False)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn the errors of a store's client, each of which has its own, into an OSError in one line."""
        try:
            yield
        except (OSError, ValueError, MemoryError):
            raise
        except Exception as error:
            raise OSError(f"{self.url} cannot be reached ({type(error).__name__}: {_one_line(error)})") from error

    def sizes(self, folder: str) -> dict[str, int]:
        place = f"{self.root}/{folder}" if folder else self.root
        try:
            with self._reached():
                self.fs.invalidate_cache()
                found: dict[str, Any] = self.fs.find(place, detail=True)
        except FileNotFoundError:
            return {}
        return {path[len(self.root) + 1 :]: int(each["size"]) for path, each in found.items()}

    def has(self, name: str) -> bool:
        with self._reached():
            return bool(self.fs.exists(f"{self.root}/{name}"))

    def read(self, name: str) -> bytes | None:
        try:
            with self._reached():
                content: bytes = self.fs.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        with self._reached():
            self.fs.pipe_file(f"{self.root}/{name}", content)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with self.fs.open(f"{self.root}/{name}", "wb") as file:
            try:
                yield file
            except BaseException:
                # Closing would show what is there so far.
                with suppress(Exception):
                    file.discard()
                file.closed = True
                raise

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        if not names:
            return {}
        with self._reached():
            found: dict[str, bytes] = self.fs.cat([f"{self.root}/{name}" for name in names], on_error="omit")
        return {path[len(self.root) + 1 :]: content for path, content in found.items()}

    def remove_all(self, names: Sequence[str]) -> None:
        if names:
            with self._reached():
                self.fs.rm([f"{self.root}/{name}" for name in names])

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError), self._reached():
            self.fs.rm_file(f"{self.root}/{name}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        yield  # stores have no locks: two runs draw the same bytes twice

    def sweep(self, folders: Sequence[str]) -> None:
        pass


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
