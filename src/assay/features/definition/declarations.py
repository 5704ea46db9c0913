"""What a desk declares in plain Python files: views, request views, recipes.

A file is run as it stands; every value of the wanted type that is bound to a name at its top level
counts. Nothing stays behind: no entry in ``sys.modules`` and no compiled file in the desk.
"""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from assay.errors import AssayError, DefinitionError, NotFound

if TYPE_CHECKING:
    from assay.features.definition.requests import RequestView
    from assay.features.definition.views import FeatureView


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Declared = TypeVar("Declared", bound=_Named)


def load_views(path: Path) -> tuple[FeatureView, ...]:
    """The feature views of a file or folder; see :func:`load_declarations`."""
    from assay.features.definition.views import FeatureView

    return load_declarations(path, FeatureView, noun="view")


def load_request_views(path: Path) -> tuple[RequestView, ...]:
    """The request views of a file or folder, maybe none; see :func:`load_declarations`."""
    from assay.features.definition.requests import RequestView

    return load_declarations(path, RequestView, noun="request view", needed=False)


def load_declarations(
    path: Path, kind: type[Declared], *, noun: str, needed: bool = True
) -> tuple[Declared, ...]:
    """The ``kind`` values of a Python file, or of every ``*.py`` in a folder, in file order.

    Parameters
    ----------
    noun: what such a value is called, for messages.
    needed: whether it is a mistake that there is none.

    Raises
    ------
    NotFound: nothing is at ``path``.
    DefinitionError: a file does not run, nothing is declared, or two values share a name.
    """
    if not path.exists():
        raise NotFound(f"no {noun}s at {path}: expected a Python file or a folder of them")
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    declared_in: dict[str, Path] = {}
    declared: list[Declared] = []
    for file in files:
        for value in _values_of(file, kind):
            if value.name in declared_in:
                raise DefinitionError(
                    f"{noun} '{value.name}' is declared in {declared_in[value.name]} and in "
                    f"{file}: expected one declaration"
                )
            declared_in[value.name] = file
            declared.append(value)
    if needed and not declared:
        raise DefinitionError(
            f"{path} declares no {noun}",
            hint=f"bind one at the top level: {noun} = {kind.__name__}(...)",
        )
    return tuple(declared)


def _values_of(file: Path, kind: type[Declared]) -> list[Declared]:
    try:
        names = runpy.run_path(str(file), run_name="assay_desk")
    except AssayError as error:
        raise DefinitionError(f"{_place(file, error)}: {error.message}", hint=error.hint) from error
    except (Exception, SystemExit) as error:
        raise DefinitionError(
            f"{_place(file, error)}: {type(error).__name__}: {error}",
            hint="the file is run as plain Python; it must run by itself",
        ) from error
    unique = {id(value): value for value in names.values() if isinstance(value, kind)}
    return list(unique.values())


def _place(file: Path, error: BaseException) -> str:
    """The file, and the line in it that failed."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{file}, line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    return f"{file}, line {lines[-1]}" if lines else str(file)
