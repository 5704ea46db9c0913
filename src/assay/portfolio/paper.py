"""Paper trading: an account on disk that decisions and prices reach as they happen.

The journal is the account: one JSON object per line, appended and synced, never rewritten.

1. ``opened`` holds the terms, the instruments and the starting equity.
2. ``decision``, ``prices`` and ``incident`` are what the account was given.
3. ``orders``, ``fills`` and ``mark`` are what prices did, written with them. They follow from the
   lines before by arithmetic alone. Some marks hold the whole state with every bit.

A process may die at any instant. The next one cuts a torn last line, takes the last state, repeats
the inputs after it, holds what it finds there to what must follow, and writes what is missing: the
journal is then the same, byte for byte, as if nothing had happened. :func:`verify` repeats all of
it from the start.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from assay.domain.canonical import canonical_bytes, content_hash
from assay.domain.instants import Instant, render
from assay.errors import AssayError, Conflict, ContractViolation, NotFound, Tampered
from assay.portfolio.account import (
    Account,
    AccountState,
    Advanced,
    Decision,
    Mark,
    Prices,
    exact,
)
from assay.portfolio.terms import NANOS_PER_HOUR, Instrument, Terms
from assay.statistics.statistic import number
from assay.storage.files import append_lines, drop_torn_tail, sync_file
from assay.storage.locks import FileLock

FORMAT: Final = 1
OPENED, DECISION, PRICES, INCIDENT = "opened", "decision", "prices", "incident"
ORDERS, FILLS, MARK = "orders", "fills", "mark"


@dataclass(frozen=True, slots=True)
class PaperTerms:
    """What a journal begins with.

    Attributes
    ----------
    subject: what trades, such as ``{"model": ..., "version": ..., "digest": ...}``.
    instruments, currencies, terms: of the :class:`~assay.portfolio.account.Account`.
    starting_equity: in the account's currency.
    replayed: whether its inputs are history that was played again, rather than what arrived.
    longest_silence: hours without prices, or without a decision, after which operation counts as
        interrupted; longer than any weekend with holidays where prices are daily.
    state_every: every how many prices a mark holds the whole state; those after it are computed
        again by a process that goes on.
    """

    subject: Mapping[str, str]
    instruments: tuple[Instrument, ...]
    terms: Terms
    starting_equity: float = 1_000_000.0
    currencies: tuple[str, ...] = ()
    replayed: bool = False
    longest_silence: float = 120.0
    state_every: int = 50

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            "format": FORMAT,
            "subject": dict(self.subject),
            "instruments": [asdict(one) for one in self.instruments],
            "currencies": list(self.currencies),
            "terms": self.terms.to_json(),
            "starting_equity": self.starting_equity,
            "replayed": self.replayed,
            "longest_silence": self.longest_silence,
            "state_every": self.state_every,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PaperTerms:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ContractViolation: it is of another format.
        """
        if document.get("format") != FORMAT:
            raise ContractViolation(
                f"paper journal of format {document.get('format')!r}: expected {FORMAT}"
            )
        return cls(
            subject=document["subject"],
            instruments=tuple(Instrument(**one) for one in document["instruments"]),
            currencies=tuple(document["currencies"]),
            terms=Terms.from_json(document["terms"]),
            starting_equity=document["starting_equity"],
            replayed=document["replayed"],
            longest_silence=document["longest_silence"],
            state_every=document["state_every"],
        )

    def account(self) -> Account:
        """The account that these terms describe."""
        return Account(self.instruments, self.terms, self.currencies)

    @property
    def silence(self) -> int:
        """The longest silence, in nanoseconds."""
        return round(self.longest_silence * NANOS_PER_HOUR)


class PaperAccount:
    """A journal that this process alone may append to, until it is closed.

    Raises
    ------
    Conflict: the journal was opened with other terms. Tampered: it is not what was written.
    Unavailable: another process has it open.
    """

    def __init__(self, path: Path, terms: PaperTerms) -> None:
        self.path = path
        self.terms = terms
        self._account = terms.account()
        self._state = self._account.open(terms.starting_equity)
        self._seq = 0
        self._taken: dict[tuple[str, str], str] = {}
        self._lock = FileLock(path.with_name(path.name + ".lock"), timeout=5.0)
        self._lock.__enter__()
        try:
            self._resume()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others open the journal."""
        if self.terms.replayed and self.path.exists():
            sync_file(self.path)
        self._lock.__exit__(None, None, None)

    @property
    def state(self) -> AccountState:
        """The account as it stands."""
        return self._state

    @property
    def last_prices(self) -> Instant | None:
        """When the last prices were that it took."""
        return self._state.at

    def knows(self, decision: str) -> bool:
        """Whether it has taken a decision with this id."""
        return (DECISION, decision) in self._taken

    def decide(self, decision: Decision, *, source: Mapping[str, str] | None = None) -> bool:
        """Take a decision; False when it had been taken before.

        Parameters
        ----------
        source: where it comes from, kept with it.

        Raises
        ------
        Conflict: another decision was taken under its id.
        OutOfOrder, ContractViolation: as :meth:`Account.decide`; nothing was written.
        """
        line = {
            "kind": DECISION,
            "id": decision.id,
            "known": decision.known,
            "scores": _numbers(decision.scores),
            "volatility": None if decision.volatility is None else _numbers(decision.volatility),
            "source": dict(source or {}),
        }
        if self._had((DECISION, decision.id), line, f"decision {decision.id}"):
            return False
        after = self._account.decide(self._state, decision)
        self._append(line)
        self._state = after
        return True

    def take(self, prices: Prices) -> Advanced | None:
        """Take prices and trade what is due; None when they had been taken before.

        Raises
        ------
        Conflict: other prices were taken for that moment.
        OutOfOrder, ContractViolation: as :meth:`Account.take`; nothing was written.
        """
        line = {
            "kind": PRICES,
            "at": prices.at,
            "mid": _numbers(prices.mid),
            "half_spread": None if prices.half_spread is None else _numbers(prices.half_spread),
            "rates": None if prices.rates is None else _numbers(prices.rates),
        }
        if self._had((PRICES, str(prices.at)), line, f"prices of {render(prices.at)}"):
            return None
        done = self._account.take(self._state, prices)
        self._append(line, *_outputs(done, self.terms))
        self._state = done.state
        return done

    def incident(self, at: Instant, reason: str) -> bool:
        """Record that operation was not undisturbed; hours are counted from there anew.

        False when it had been recorded before.
        """
        line = {"kind": INCIDENT, "at": at, "reason": reason}
        if self._had((INCIDENT, str(at)), line, f"incident of {render(at)}"):
            return False
        self._append(line)
        return True

    def _had(self, key: tuple[str, str], line: Mapping[str, Any], what: str) -> bool:
        known = self._taken.get(key)
        if known is not None and known != content_hash(line):
            raise Conflict(f"{what} was taken before with another content: {self.path}")
        return known is not None

    def _append(self, *lines: Mapping[str, Any]) -> None:
        encoded = [
            canonical_bytes({"seq": seq, **line}) for seq, line in enumerate(lines, self._seq)
        ]
        # What is replayed can be replayed again: it is synced once, at the end.
        append_lines(self.path, encoded, sync=not self.terms.replayed)
        self._seq += len(lines)
        for line in lines:
            self._remember(line)

    def _remember(self, line: Mapping[str, Any]) -> None:
        key = _key(line)
        if key is not None:
            self._taken[key] = content_hash(line)

    def _resume(self) -> None:
        drop_torn_tail(self.path)
        lines = read_journal(self.path) if self.path.exists() else []
        opened = {"kind": OPENED, **self.terms.to_json()}
        if not lines:
            self._append(opened)
            return
        if _without_seq(lines[0]) != opened:
            raise Conflict(
                f"{self.path} was opened with other terms",
                hint="open another journal: an account keeps its terms",
            )
        self._seq = len(lines)
        for line in lines:
            self._remember(_without_seq(line))
        last = max((n for n, line in enumerate(lines) if "state" in line), default=0)
        if last:
            self._state = AccountState.from_json(lines[last]["state"])
        tail = lines[last + 1 :]
        missing, self._state = _repeat(self.terms, self._state, tail, self.path)
        if missing:
            self._append(*missing)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal, an unfinished last one left out.

    Raises
    ------
    NotFound: there is none. Tampered: a line is missing, or is no line of a journal.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"no paper account at {path}", hint="assay paper run NAME") from None
    lines = []
    for count, raw in enumerate(data[: data.rfind(b"\n") + 1].splitlines()):
        try:
            line = json.loads(raw)
            if line["seq"] != count or not isinstance(line["kind"], str):
                raise ValueError("not the line that belongs here")
        except (ValueError, KeyError, TypeError) as error:
            raise Tampered(f"{path} line {count + 1} is not what was written: {error}") from None
        lines.append(line)
    if lines and lines[0]["kind"] != OPENED:
        raise Tampered(f"{path} does not begin with the terms of an account")
    return lines


def verify(path: Path) -> list[str]:
    """Repeat a journal from its first line; what differs from it, nothing when all is as written.

    Raises
    ------
    NotFound, Tampered: it cannot be read at all.
    """
    lines = read_journal(path)
    if not lines:
        return [f"{path} is empty"]
    terms = PaperTerms.from_json(lines[0])
    try:
        start = terms.account().open(terms.starting_equity)
        missing, _ = _repeat(terms, start, lines[1:], path)
    except AssayError as error:
        return [error.message]
    return [f"{len(missing)} lines are missing at the end"] if missing else []


def _repeat(
    terms: PaperTerms, state: AccountState, lines: list[dict[str, Any]], path: Path
) -> tuple[list[dict[str, Any]], AccountState]:
    """Repeat inputs, hold the outputs after them to what they must be; those that are missing."""
    account = terms.account()
    expected: list[dict[str, Any]] = []
    for line in lines:
        what = _without_seq(line)
        if expected:
            wanted = expected.pop(0)
            if canonical_bytes(what) != canonical_bytes(wanted):
                raise Tampered(
                    f"{path} line {line['seq'] + 1} is not what follows from the lines before it: "
                    f"found {line['kind']}, expected {wanted['kind']}",
                    hint="it was changed, or this machine computes otherwise than the one before",
                )
            continue
        if line["kind"] == DECISION:
            state = account.decide(state, _decision(line))
        elif line["kind"] == PRICES:
            done = account.take(state, _prices(line))
            state, expected = done.state, list(_outputs(done, terms))
        elif line["kind"] != INCIDENT:
            raise Tampered(f"{path} line {line['seq'] + 1}: {line['kind']} follows from nothing")
    return expected, state


def _outputs(done: Advanced, terms: PaperTerms) -> Iterator[dict[str, Any]]:
    orders, fills = done.orders, done.fills
    if orders:
        # By column: names once, not once for each order.
        yield {
            "kind": ORDERS,
            "decision": orders[0].decision,
            "instruments": [one.instrument for one in orders],
            "units": [number(one.units) for one in orders],
            "weights": [number(one.weight) for one in orders],
        }
        yield {
            "kind": FILLS,
            "decision": orders[0].decision,
            "instruments": [one.instrument for one in fills],
            "units": [number(one.units) for one in fills],
            "prices": [number(one.price) for one in fills],
            "costs": [number(one.cost) for one in fills],
        }
    state = {"state": done.state.to_json()} if done.state.events % terms.state_every == 0 else {}
    # Also what no order or profit depends on yet, such as a price, is held to what it was.
    yield {"kind": MARK, **_mark_json(done.mark), "state_digest": done.state.digest, **state}


def _mark_json(mark: Mark) -> dict[str, Any]:
    document = {
        key: number(value) if isinstance(value, float) else value
        for key, value in asdict(mark).items()
    }
    return {**document, "superseded": list(mark.superseded), "equity_exact": exact(mark.equity)}


def _numbers(values: Mapping[str, float]) -> dict[str, float]:
    # One that is no number is the same as none at all, and JSON has no way to write it.
    plain = {name: number(value) for name, value in sorted(values.items())}
    return {name: value for name, value in plain.items() if value is not None}


def _decision(line: Mapping[str, Any]) -> Decision:
    return Decision(line["id"], line["known"], line["scores"], line["volatility"])


def _prices(line: Mapping[str, Any]) -> Prices:
    return Prices(line["at"], line["mid"], line["half_spread"], line["rates"])


def _key(line: Mapping[str, Any]) -> tuple[str, str] | None:
    if line["kind"] == DECISION:
        return DECISION, line["id"]
    if line["kind"] in {PRICES, INCIDENT}:
        return line["kind"], str(line["at"])
    return None


def _without_seq(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "seq"}
