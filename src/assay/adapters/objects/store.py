"""The port of objects over a file system of fsspec."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from assay.errors import ConfigurationError, NotFound, Unavailable
from assay.storage.objects import check_object_name

_WHOLE_OR_NOTHING = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "oss", "memory"})
"""Protocols that show an object when all of it has arrived; elsewhere it is renamed into place."""

_CREDENTIALS = re.compile(r"(?<=//)[^/@]*@")
_TRANSLATED = (OSError, ValueError, ImportError, RuntimeError)


class FsspecObjects:
    """Objects below a URL such as ``s3://bucket/manifests`` or ``memory://manifests``.

    A name is written only where there is none. S3 and memory decide that themselves, in one step
    with the writing; elsewhere two writers at one instant may both believe to be the first, which
    does no harm to objects that are named by their content.

    Parameters
    ----------
    url: of a folder; it need not exist.
    options: what the file system takes besides, such as ``{"endpoint_url": ...}``.

    Raises
    ------
    ConfigurationError: fsspec knows no such protocol.
    Unavailable: the package that speaks it is not installed.
    """

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        self._url = url.rstrip("/")
        protocol = url.partition("://")[0]
        try:
            # Listings are asked for anew each time: another process may have published.
            self._files, root = fsspec.core.url_to_fs(
                self._url, **{"use_listings_cache": False, **(options or {})}
            )
        except ImportError as error:
            raise Unavailable(
                f"objects in {self.url}: {error}", hint="pip install 'assay[object-storage]'"
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"objects in {self.url}: {error}") from None
        self._root = str(root).rstrip("/")
        self._is_whole = protocol in _WHOLE_OR_NOTHING

    @property
    def url(self) -> str:
        """Where the objects are; without a password, should the URL hold one."""
        return _CREDENTIALS.sub("", self._url)

    def put_if_absent(self, name: str, data: bytes) -> bytes:
        """See :meth:`assay.storage.objects.ObjectStore.put_if_absent`."""
        path = self._path(name)
        with self._explained():
            try:
                self._create(path, data)
            except FileExistsError:
                return bytes(self._files.cat_file(path))
            except OSError:
                # S3 says that a condition failed; whoever was first has written by then.
                if not self._files.exists(path):
                    raise
                return bytes(self._files.cat_file(path))
        return data

    def get(self, name: str) -> bytes:
        """See :meth:`assay.storage.objects.ObjectStore.get`."""
        with self._explained():
            try:
                return bytes(self._files.cat_file(self._path(name)))
            except FileNotFoundError:
                raise NotFound(f"no object {name} in {self.url}") from None

    def names(self, folder: str = "") -> list[str]:
        """See :meth:`assay.storage.objects.ObjectStore.names`."""
        inside = self._path(folder) if folder else self._root
        with self._explained():
            try:
                entries = self._files.ls(inside, detail=True)
            except FileNotFoundError:
                return []
        found = [str(one["name"]).rpartition("/")[2] for one in entries if one["type"] == "file"]
        names = sorted(name for name in found if name and not name.startswith("."))
        return [f"{folder}/{name}" for name in names] if folder else names

    def remove(self, name: str) -> None:
        """See :meth:`assay.storage.objects.ObjectStore.remove`."""
        path = self._path(name)
        with self._explained():
            try:
                self._files.rm_file(path)
            except FileNotFoundError:
                return

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_object_name(name)}"

    def _create(self, path: str, data: bytes) -> None:
        # Asked first as well: there are servers that take the condition and do not look at it.
        if self._files.exists(path):
            raise FileExistsError(path)
        if self._is_whole:
            self._files.pipe_file(path, data, mode="create")
            return
        folder, _, name = path.rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
        self._files.pipe_file(temporary, data)
        self._files.mv(temporary, path)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what the file system raises in Assay's words."""
        try:
            yield
        except NotFound:
            raise
        except PermissionError as error:
            raise Unavailable(
                f"objects in {self.url}: not allowed: {error}",
                hint="the credentials that the client finds may not read or write there",
            ) from error
        except Exception as error:
            if not isinstance(error, _TRANSLATED) and not _is_of_a_client(error):
                raise
            raise Unavailable(
                f"objects in {self.url}: {type(error).__name__}: {error}",
                hint="is the bucket there, and are credentials where its client looks for them?",
            ) from error


def _is_of_a_client(error: Exception) -> bool:
    """Whether a vendor's client raised it: its errors have a base class of its own."""
    modules = (kind.__module__.partition(".")[0] for kind in type(error).__mro__)
    return any(name in {"botocore", "aiobotocore", "aiohttp", "gcsfs", "adlfs"} for name in modules)
