"""Spans of requests: the side of tracing that serving sees. What keeps them is an adapter.

A span is in the context of its request, so that whatever is logged on the way can name the trace.
It is the one thing that is not passed as an argument: log lines are written by code that knows
nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

Attribute = str | int | float | bool


class Span(Protocol):
    """One request under way.

    Attributes
    ----------
    trace_id: 32 hexadecimal digits.
    """

    @property
    def trace_id(self) -> str: ...

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Say more about it."""
        ...

    def fail(self, what: str) -> None:
        """It went wrong, and not by the caller's fault."""
        ...

    def forget(self) -> None:
        """There was nothing to keep: it is not sent."""
        ...

    def end(self) -> None:
        """It has been answered, or never will be."""
        ...


class Tracing(Protocol):
    """Keeps spans."""

    def begin(
        self,
        name: str,
        headers: Mapping[bytes, bytes],
        attributes: Mapping[str, Attribute],
        age: int,
    ) -> Span:
        """A request has come, ``age`` nanoseconds ago; its headers may name the trace that it
        belongs to.
        """
        ...

    def close(self) -> None:
        """Send what waits; does not wait long."""
        ...


CURRENT: ContextVar[Span | None] = ContextVar("assay-span", default=None)
"""The span of the request that is being answered."""


def trace_id() -> str | None:
    """The trace of the request that is being answered; None without one."""
    span = CURRENT.get()
    return None if span is None else span.trace_id
