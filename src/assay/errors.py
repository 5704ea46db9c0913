"""The tree of errors that Assay raises on purpose.

::

    AssayError
    ├── ConfigurationError      a setting, desk file or command-line value is wrong
    ├── DefinitionError         a feature, view or recipe cannot mean what it says
    ├── DataError               facts or tables break their contract
    │   ├── ContractViolation   a column is missing, mistyped or out of range
    │   ├── OutOfOrder          a driver was given a row older than one it has processed
    │   └── LookAhead           a value would use what was not yet known
    ├── IntegrityError          stored bytes are not what was written or signed
    │   ├── Tampered            a file, log entry or signature does not verify
    │   └── IncompatibleVersion a model does not fit the data, schema or manifest
    ├── NotFound                the named thing does not exist
    ├── Conflict                the request contradicts what is already stored
    ├── Refused                 a rule said no: a gate, an approval, a lifecycle transition
    └── Unavailable             a dependency (extra, store, lock) is not there

Every error says what went wrong, which value, what was expected, and what to type next. The
last part is kept apart as :attr:`AssayError.hint`, so that a terminal, a log line and an HTTP
problem document can each show it in its own way. Standard library only: every other module may
import this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AssayError(Exception):
    """Base of all errors that are expected and explained.

    Parameters
    ----------
    message: what went wrong, with the value found and what was expected.
    hint: what to do or type next; shown after the message.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class ConfigurationError(AssayError):
    """A setting, a desk file or a command-line value is wrong."""


class DefinitionError(AssayError):
    """A feature, a view or a training recipe cannot mean what it says."""


class DataError(AssayError):
    """Facts or tables break their contract."""


class ContractViolation(DataError):
    """A column is missing, has the wrong type or holds a value outside its range."""


class OutOfOrder(DataError):
    """A driver was given a row that is older than one it has already processed."""


class LookAhead(DataError):
    """A value would depend on something that was not yet known at its time."""


class IntegrityError(AssayError):
    """Stored bytes are not what was written or signed."""


class Tampered(IntegrityError):
    """A file, a log entry or a signature does not verify."""


class IncompatibleVersion(IntegrityError):
    """A model does not fit the data, the schema or the manifest that it meets."""


class NotFound(AssayError):
    """The named thing does not exist."""


class Gone(NotFound):
    """The named thing existed, and was removed on purpose; the message says when and by whom."""


class Conflict(AssayError):
    """The request contradicts what is already stored."""


class Refused(AssayError):
    """A rule said no: a gate, an approval or a lifecycle transition."""


class Unavailable(AssayError):
    """A dependency is not there: an optional package, a store, a lock."""


def nearest(found: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that ``found`` most resembles, or None when nothing is close."""
    matches = get_close_matches(found, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """A hint that names the nearest allowed value, or all of them when none is close."""
    names = sorted(allowed)
    close = nearest(found, names)
    if close is not None:
        return f"did you mean '{close}'?"
    return "allowed: " + ", ".join(names)
