"""What a pickle would import if somebody loaded it; it is read here and never loaded.

Loading a pickle runs what it names. A desk refuses pickles unless its settings say otherwise, and
one that it takes may name nothing but the classes and constructors that numbers, arrays and
scikit-learn's estimators are made of. Assay itself loads none.
"""

from __future__ import annotations

import pickletools
from typing import Final

from assay.errors import ContractViolation

SUFFIXES: Final = (".pkl", ".pickle", ".joblib")

_NAMES: Final = frozenset(
    {
        (module, name)
        for module in ("builtins", "__builtin__")
        for name in ("bytearray", "bytes", "complex", "dict", "frozenset", "list", "object", "set",
                     "slice", "tuple", "range")
    }
    | {
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    }
    | {
        ("collections", "OrderedDict"), ("collections", "defaultdict"), ("numpy", "dtype"),
        ("numpy", "ndarray"), ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.numeric", "_frombuffer"), ("_codecs", "encode"), ("copyreg", "_reconstructor"),
        ("copyreg", "__newobj__"), ("datetime", "date"), ("datetime", "datetime"),
        ("datetime", "timedelta"), ("decimal", "Decimal"),
    }
)  # fmt: skip
_ESTIMATORS: Final = ("sklearn.",)
_STRINGS: Final = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING",
     "SHORT_BINSTRING"}
)  # fmt: skip


def looks_like_pickle(name: str, data: bytes) -> bool:
    """By its name, or by how it begins: protocols 2 to 5 state themselves."""
    return name.lower().endswith(SUFFIXES) or (
        len(data) > 1 and data[0] == 0x80 and 2 <= data[1] <= 5
    )


def imports_of(data: bytes) -> frozenset[tuple[str, str]]:
    """Every (module, name) that loading would import.

    Raises
    ------
    ContractViolation: the stream cannot be followed to its end, has something behind it, or names
        what it imports in a way that only running it would tell.
    """
    found: set[tuple[str, str]] = set()
    strings: list[str | None] = []
    memo: dict[int, str | None] = {}
    last: str | None = None
    end = 0
    try:
        for opcode, argument, position in pickletools.genops(data):
            end = position or 0
            if opcode.name in _STRINGS:
                last = str(argument)
                strings.append(last)
            elif opcode.name in {"MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"}:
                memo[len(memo) if opcode.name == "MEMOIZE" else int(str(argument))] = last
            elif opcode.name in {"BINGET", "LONG_BINGET", "GET"}:
                last = memo.get(int(str(argument)))
                strings.append(last)
            elif opcode.name in {"GLOBAL", "INST"}:
                module, _, name = str(argument).partition(" ")
                found.add((module, name))
                last = None
            elif opcode.name == "STACK_GLOBAL":
                if len(strings) < 2 or strings[-1] is None or strings[-2] is None:
                    raise ContractViolation("it computes the name of what it imports")
                found.add((strings[-2], strings[-1]))
                last = None
            elif opcode.name in {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}:
                raise ContractViolation(
                    f"it holds a reference that is kept elsewhere ({opcode.name})"
                )
            else:
                last = None
                if opcode.name not in {"FRAME", "PROTO", "MARK"}:
                    strings.append(None)
    except ContractViolation:
        raise
    except Exception as error:  # pickletools raises whatever a wrong stream makes of it
        raise ContractViolation(f"it is no whole pickle: {error}") from error
    if end + 1 != len(data):
        raise ContractViolation(f"{len(data) - end - 1} bytes stand behind its end")
    return frozenset(found)


def check_pickle(name: str, data: bytes) -> None:
    """Refuse a pickle that would import anything but what numbers and estimators are made of.

    Raises
    ------
    ContractViolation: names the file and what it would import.
    """
    try:
        imports = imports_of(data)
    except ContractViolation as error:
        raise ContractViolation(f"{name}: {error.message}") from None
    strange = sorted(
        f"{module}.{item}"
        for module, item in imports
        if (module, item) not in _NAMES and not _is_estimator(module, item)
    )
    if strange:
        raise ContractViolation(
            f"{name} would import {', '.join(strange)} when it is loaded",
            hint="store the model as ONNX, or as plain numbers",
        )


def _is_estimator(module: str, name: str) -> bool:
    """A public class of scikit-learn: those begin with a capital letter."""
    inside = (
        module.startswith(_ESTIMATORS) and "testing" not in module and "externals" not in module
    )
    return inside and "." not in name and name[:1].isupper()
