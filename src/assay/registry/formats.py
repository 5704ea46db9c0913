"""What the files of a version may be that is no ONNX model: definitions, weights, transforms.

Each is read in its own format when it is registered, and again before it goes live, so that what a
desk relies on at night is not found to be unreadable then.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Final

import yaml

from assay.errors import ContractViolation
from assay.registry.pickles import check_pickle, looks_like_pickle

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of files: what a plain tar can hold, so that every version can be exported."""


def check_files(files: Mapping[str, bytes], *, pickles: bool = False) -> None:
    """Refuse a file with a name that is none, of a kind that is not known, or not of its kind.

    Parameters
    ----------
    pickles: whether pickles are taken that import nothing unusual.

    Raises
    ------
    ContractViolation: names the file and what is wrong with it.
    """
    for name, data in files.items():
        if not NAME.fullmatch(name):
            raise ContractViolation(
                f"file name {name!r}: expected at most 100 letters, digits and ._- after a letter "
                "or digit"
            )
        _check(name, data, pickles=pickles)


def _check(name: str, data: bytes, *, pickles: bool) -> None:
    if looks_like_pickle(name, data):
        if not pickles:
            raise ContractViolation(
                f"{name} is a pickle: loading one runs whatever it names",
                hint="store plain numbers or ONNX; or set registry.pickles: scanned",
            )
        check_pickle(name, data)
        return
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    read = _READERS.get(suffix)
    if read is None:
        raise ContractViolation(
            f"{name}: no known kind of file; expected one of {', '.join(sorted(_READERS))}"
        )
    try:
        read(data)
    except ContractViolation as error:
        raise ContractViolation(f"{name}: {error.message}", hint=error.hint) from None
    except Exception as error:  # each reader raises its own
        raise ContractViolation(f"{name} cannot be read as {suffix}: {error}") from error


def _json(data: bytes) -> None:
    json.loads(data)


def _yaml(data: bytes) -> None:
    for _ in yaml.safe_load_all(data.decode("utf-8")):
        pass


def _text(data: bytes) -> None:
    if "\0" in data.decode("utf-8"):
        raise ContractViolation("it holds a zero byte: no text")


def _csv(data: bytes) -> None:
    import polars as pl

    _text(data)
    pl.read_csv(io.BytesIO(data), infer_schema=False)


def _parquet(data: bytes) -> None:
    import polars as pl

    pl.read_parquet(io.BytesIO(data))


def _npy(data: bytes) -> None:
    import numpy as np

    stream = io.BytesIO(data)
    np.load(stream, allow_pickle=False)
    if stream.read(1):
        raise ContractViolation("bytes stand behind its end")


def _onnx(data: bytes) -> None:
    from assay.registry.onnx_check import check_graph

    check_graph(data)


_READERS: Final[Mapping[str, Callable[[bytes], None]]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".txt": _text,
    ".md": _text,
    ".csv": _csv,
    ".parquet": _parquet,
    ".npy": _npy,
    ".onnx": _onnx,
}
