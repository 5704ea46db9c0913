"""Options that many commands share, and how a command opens its desk."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from assay.orchestration.desk import Desk

DeskOption: TypeAlias = Annotated[
    Path, typer.Option("--desk", metavar="DIR", help="The desk project's folder.")
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; progress goes to standard error.")
]
NameArgument: TypeAlias = Annotated[str, typer.Argument(help="The model's name.")]
OptionalName: TypeAlias = Annotated[
    str | None, typer.Argument(help="The model's name; every model when left out.")
]
VersionArgument: TypeAlias = Annotated[str, typer.Argument(help="The version, such as 1.2.0.")]
IdentityOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Whose key acts; your user name when left out."),
]
ReasonOption: TypeAlias = Annotated[
    str, typer.Option("--reason", help="Why; kept in the log for ever.")
]
HERE = Path()


def open_desk(path: Path) -> Desk:
    """Open the desk of a command; imported late so that help needs nothing."""
    from assay import bootstrap

    return bootstrap.open_desk(path)


def acting(given: str | None) -> str:
    """Whom a command acts for: who is named, or else the user of the machine."""
    return given or getpass.getuser()


def require(desk: Desk, identity: str | None, scope: str, action: str, resource: str) -> str | None:
    """Let somebody do something, who holds the key and has the roles for it.

    Returned is why roles were not asked, None where they were; see
    :meth:`assay.orchestration.desk.Desk.require`.

    Parameters
    ----------
    scope: such as ``model:write``; see :class:`assay.access.Scope`.
    """
    from assay.access import Scope

    return desk.require(acting(identity), Scope(scope), action=action, resource=resource)


def require_user(
    desk: Desk, identity: str | None, scope: str, action: str, resource: str
) -> str | None:
    """The same where the desk names users; where it names none, nothing is asked."""
    if not desk.names_users:
        return None
    return require(desk, identity, scope, action, resource)


def with_remark(reason: str, unreadable: str | None) -> str:
    """A reason for the log, which says so where roles were not asked."""
    return reason if unreadable is None else f"{reason} [ROLES WERE NOT ASKED: {unreadable}]"
