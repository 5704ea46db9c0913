"""Windows, calendars, bars and lateness by name: ``configs/features/windows.yaml``.

1. The YAML file says what is meant: windows of rows, time and sessions; calendars by exchange, by
   named session of the currency market, or by rule; bars that are made of ticks; how late a fact
   may come (:mod:`~assay.features.definition.window_text`).
2. It is compiled into the message of ``windows.proto``, beside it as ``windows.pb``: moments and
   numbers only (:mod:`~assay.features.definition.window_messages`). That file belongs into version
   control: with it, neither a server nor a colleague needs the calendar library, and no new version
   of it changes a feature by itself.
3. :func:`load_windows` reads the compiled file, and compiles anew only where the text has changed
   or there is none. What both drivers are given comes from the message, never from the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from assay.domain.canonical import sha256_hex
from assay.errors import DefinitionError, NotFound, Tampered, did_you_mean
from assay.features.definition.bars import Bars
from assay.features.definition.calendars import SessionTable
from assay.features.definition.lateness import Lateness
from assay.features.definition.window_messages import declared_in, message_of, messages
from assay.features.definition.window_text import declared_by
from assay.features.definition.windows import Window
from assay.storage.files import write_atomic

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class WindowSet:
    """What a file declares; an unknown name is refused with the nearest.

    Attributes
    ----------
    windows: by name, for the operators. calendars: for :class:`FeatureView`, in the file's order.
    bars: by name, for the feeds of ticks and for :class:`FeatureView`.
    lateness: by name, for :class:`FeatureView`.
    digest: SHA-256 of the compiled message.
    """

    windows: Mapping[str, Window]
    calendars: tuple[SessionTable, ...]
    digest: str
    bars: Mapping[str, Bars]
    lateness: Mapping[str, Lateness]

    def __getitem__(self, name: str) -> Window:
        """A window by name."""
        return self.windows[name]


class _Named(dict[str, _Value]):
    """Values of one kind by name."""

    def __init__(self, kind: str, values: Mapping[str, _Value]) -> None:
        super().__init__(values)
        self._kind = kind

    def __missing__(self, name: str) -> _Value:
        raise DefinitionError(
            f"{self._kind} {name!r} is not declared",
            hint=did_you_mean(name, self) if self else f"declare it in {self._kind}",
        )


def load_windows(path: Path) -> WindowSet:
    """Read a file of windows; see the module's docstring.

    Raises
    ------
    NotFound: there is no such file. Tampered: the compiled file cannot be read.
    DefinitionError: something in it is not what it has to be; the message names the entry.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"no windows at {path.absolute()}",
            hint='in a desk\'s file: Path(__file__).parents[1] / "configs/features/windows.yaml"',
        ) from None
    compiled = path.with_suffix(".pb")
    if compiled.exists():
        data = compiled.read_bytes()
        message = _read(data, compiled)
        if message.text_sha256 == sha256_hex(text):
            return _set_of(message, data, compiled)
    data = compile_windows(text, str(path))
    write_atomic(compiled, data)
    return _set_of(_read(data, compiled), data, compiled)


def compile_windows(text: bytes, where: str = "windows") -> bytes:
    """The serialized message of a file's text; the same bytes for the same text and calendars.

    Raises
    ------
    DefinitionError: as :func:`load_windows`.
    """
    message = message_of(declared_by(text, where), sha256_hex(text))
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _read(data: bytes, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return messages().Windows.FromString(data)
    except DecodeError as error:
        raise _tampered(path, error) from None


def _set_of(message: Any, data: bytes, path: Path) -> WindowSet:
    try:
        found = declared_in(message)
    except (DefinitionError, KeyError, ValueError) as error:
        # It was written by a compilation, which refuses all of these.
        raise _tampered(path, error) from None
    return WindowSet(
        windows=MappingProxyType(_Named("window", found.windows)),
        calendars=tuple(found.calendars.values()),
        digest=sha256_hex(data),
        bars=MappingProxyType(_Named("bars", found.bars)),
        lateness=MappingProxyType(_Named("lateness", found.lateness)),
    )


def _tampered(path: Path, error: Exception) -> Tampered:
    return Tampered(f"compiled windows {path}: {error}", hint=f"remove {path}, it is made again")
