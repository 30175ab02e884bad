"""The places to which a run is written: a local folder, or any store that fsspec knows (s3://, gs://, memory://).

A file appears complete or not at all. A local file is written aside, synced and renamed, and its folder is synced; a store shows an object
when all of it has been uploaded.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dpmsolver.brief import one_line

__all__ = ["Target", "open_target"]

_URL = re.compile(r"[a-z][a-z0-9+.-]+://")
_ASIDE = re.compile(r"\..+\.\d+\.tmp")  # of `_Local._aside`: .NAME.HOST.PROCESS.tmp
_AT_ONCE = 8  # files that are synced at the same time, so that the disk writes them together
_PIECE = 2**20  # bytes that are read at once where a file may be large


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
    def size(self, name: str) -> int | None:
        """Return the size of a file, or None if it does not exist."""

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
    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write many files, each complete or not at all, in any order. All are on the disk when this returns."""

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, which is read in pieces."""
        total = hashlib.sha256()
        with self.reading(name) as file:
            while piece := file.read(_PIECE):
                total.update(piece)
        return total.hexdigest()

    @abstractmethod
    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file of large content, which exists."""

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

    def size(self, name: str) -> int | None:
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes, *, lasting: bool = True) -> None:
        self._make((self.folder / name).parent)
        with self._aside(name, lasting) as file:
            file.write(content)
        if lasting:
            _sync((self.folder / name).parent)

    def write_all(self, files: Mapping[str, bytes]) -> None:
        folders = sorted({(self.folder / name).parent for name in files})
        for folder in folders:
            self._make(folder)

        def put(name: str) -> None:
            with self._aside(name, True) as file:
                file.write(files[name])

        # One after the other, each file would wait for a write of the disk of its own.
        with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(files)))) as threads:
            for _ in threads.map(put, files):
                pass
        for folder in folders:
            _sync(folder)

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        with (self.folder / name).open("rb") as file:
            yield file

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        self._make((self.folder / name).parent)
        with self._aside(name, True) as file:
            yield file
        _sync((self.folder / name).parent)

    @contextmanager
    def _aside(self, name: str, lasting: bool) -> Iterator[IO[bytes]]:
        """Open a file that is renamed when the block ends. The caller makes its folder, and syncs it."""
        path = self.folder / name
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
            raise ValueError(f"out {url}: {one_line(error)}") from error
        except ImportError as error:
            raise ImportError(f"out {url}: {one_line(error)}") from error
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
            raise ValueError(f"out {self.url} cannot be reached ({type(error).__name__}: {one_line(error)})") from error

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
            raise OSError(f"{self.url} cannot be reached ({type(error).__name__}: {one_line(error)})") from error

    def sizes(self, folder: str) -> dict[str, int]:
        place = f"{self.root}/{folder}" if folder else self.root
        try:
            with self._reached():
                self.fs.invalidate_cache()
                found: dict[str, Any] = self.fs.find(place, detail=True)
        except FileNotFoundError:
            return {}
        return {path[len(self.root) + 1 :]: int(each["size"]) for path, each in found.items()}

    def size(self, name: str) -> int | None:
        try:
            with self._reached():
                self.fs.invalidate_cache()
                return int(self.fs.info(f"{self.root}/{name}")["size"])
        except FileNotFoundError:
            return None

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

    def write_all(self, files: Mapping[str, bytes]) -> None:
        if files:
            with self._reached():
                self.fs.pipe({f"{self.root}/{name}": content for name, content in files.items()})

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        with self._reached(), self.fs.open(f"{self.root}/{name}", "rb") as file:
            yield file

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
            found: dict[str, Any] = self.fs.cat([f"{self.root}/{name}" for name in names], on_error="return")
            for answer in found.values():
                if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                    raise answer
        return {path[len(self.root) + 1 :]: answer for path, answer in found.items() if isinstance(answer, bytes)}

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
