"""Who may do what on a desk, who did what, and what nobody uses any more: the access audit.

1. What each user may do follows from ``configs/access.yaml``.
2. What was done stands in two chained records: the registry's log (by the identity whose key was
   used) and the record of access (by user). Questions leave no trace, changes and refusals do.
3. A user is dormant who did nothing for a while, or never did anything; a token is when it counts
   and its user did nothing since it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from assay.access import AccessPolicy, Revocation, Scope, User
from assay.access.access_log import until_of
from assay.domain.instants import NANOS_PER_SECOND, Instant, parse, render
from assay.errors import ConfigurationError
from assay.orchestration.desk import Desk
from assay.orchestration.report.document import header, render_document, section, texts
from assay.orchestration.report.html import Markup, element
from assay.registry import Entry, EventType
from assay.storage.files import write_atomic

PAGES: Final = (Path("reports", "access_audit.md"), Path("reports", "access_audit.html"))


@dataclass(frozen=True, slots=True)
class UserActivity:
    """One user: what they may do, what they did, and when last. ``done`` counts by kind."""

    user: User
    done: Mapping[str, int]
    last: Instant | None
    refused: int
    dormant: bool

    def to_json(self) -> dict[str, Any]:
        return {
            **self.user.to_json(),
            "done": dict(self.done),
            "last": None if self.last is None else render(self.last),
            "refused": self.refused,
            "dormant": self.dormant,
        }


@dataclass(frozen=True, slots=True)
class TokenState:
    """One token that was issued here. ``state`` is good, ended, revoked or of no user."""

    token_id: str
    subject: str
    issued_at: Instant
    until: Instant | None
    by: str
    state: str
    dormant: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "token_id": self.token_id,
            "subject": self.subject,
            "issued_at": render(self.issued_at),
            "until": None if self.until is None else render(self.until),
            "by": self.by,
            "state": self.state,
            "dormant": self.dormant,
        }


@dataclass(frozen=True, slots=True)
class AccessAudit:
    """Everything that the audit found, as of a moment.

    Attributes
    ----------
    days: without any deed, after which a user counts as dormant.
    strangers: identities that did something and belong to no user today, with how often.
    glass: promotions past gates and approvals. denials: how often who was refused why.
    """

    at: Instant
    days: float
    users: tuple[UserActivity, ...]
    strangers: Mapping[str, int]
    tokens: tuple[TokenState, ...]
    glass: tuple[Entry, ...]
    denials: tuple[tuple[str, str, int, str], ...]
    events: int

    def may(self) -> dict[str, list[str]]:
        """Scope -> who has it."""
        return {
            str(scope): [one.user.name for one in self.users if scope in one.user.scopes]
            for scope in Scope
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "at": render(self.at),
            "dormant_after_days": self.days,
            "users": [one.to_json() for one in self.users],
            "may": self.may(),
            "strangers": dict(self.strangers),
            "tokens": [one.to_json() for one in self.tokens],
            "break_glass": [entry.to_json() for entry in self.glass],
            "denials": [
                {"subject": who, "code": code, "times": times, "last": last}
                for who, code, times, last in self.denials
            ],
            "events_of_access": self.events,
        }

    def parts(self) -> tuple[tuple[str, tuple[str, ...], list[tuple[str, ...]]], ...]:
        """The tables: title, columns, rows."""
        return (
            (
                "Who can do what",
                ("may", "who"),
                [(scope, ", ".join(who) or "nobody") for scope, who in self.may().items()],
            ),
            (
                "Who did what",
                ("user", "kind", "roles", "acts for", "did", "last", "refused", "dormant"),
                [_user_row(one) for one in self.users],
            ),
            (
                "Identities of no user",
                ("identity", "deeds"),
                [(who, str(times)) for who, times in self.strangers.items()],
            ),
            (
                "Tokens",
                ("token", "user", "issued", "until", "by", "state", "dormant"),
                [_token_row(one) for one in self.tokens],
            ),
            (
                "Broken glass",
                ("entry", "when", "who", "model", "version", "outcome", "reason"),
                [
                    (str(e.seq), render(e.at), e.initiated_by, e.model, str(e.to_version),
                     str(e.outcome), e.reason)
                    for e in self.glass
                ],
            ),
            (
                "Denials",
                ("who", "reason", "times", "last"),
                [(who or "(nobody)", code, str(times), last)
                 for who, code, times, last in self.denials],
            ),
        )  # fmt: skip

    def to_markdown(self) -> str:
        """The page ``reports/access_audit.md``."""
        lines = ["# Access", "", self._first_words(), ""]
        for title, columns, rows in self.parts():
            lines += [f"## {title}", ""]
            if not rows:
                lines += ["None.", ""]
                continue
            lines += [_row(columns), _row("---" for _ in columns), *map(_row, rows), ""]
        return "\n".join(lines)

    def to_html(self) -> str:
        """The page ``reports/access_audit.html``."""
        dormant = sum(one.dormant for one in self.users)
        facts = (
            ("Users", len(self.users)),
            ("Dormant", dormant),
            ("Broken glass", len(self.glass)),
            ("Refusals", sum(times for _, _, times, _ in self.denials)),
        )
        return render_document(
            "Access",
            header("Assay · access audit", "Who may do what, and who did", facts=facts),
            element("main", [section(title, _table(columns, rows)) for title, columns, rows
                             in self.parts()]),
            element("p", self._first_words()),
        )  # fmt: skip

    def _first_words(self) -> str:
        return (
            f"As of {render(self.at)}; {self.events} events of access, their chain is whole. "
            f"Dormant: nothing done for {self.days:g} days. Changes and refusals leave a trace, "
            "questions do not."
        )


def audit_access(desk: Desk, *, days: float = 90.0, limit: int = 100_000) -> AccessAudit:
    """Hold the users of a desk against everything that was done and refused.

    Parameters
    ----------
    limit: of the registry's log, so many of the latest entries are read.

    Raises
    ------
    ConfigurationError: the desk names no users. Tampered: a record does not verify.
    """
    policy = desk.access
    if policy is None:
        raise ConfigurationError(
            f"no users: {desk.access_layout.users} does not exist",
            hint="write one: users:, then for each name roles: [quant]",
        )
    now = desk.registry.now()
    events = desk.access_log.events()
    entries = desk.registry.latest(limit)
    deeds = [*_from_log(entries), *_from_record(events)]
    done, last = _by_user(policy, deeds)
    refused = Counter(_named(policy, e["subject"]) for e in events if e["event"] == "refused")
    oldest = now - int(days * 86_400 * NANOS_PER_SECOND)
    users = tuple(
        UserActivity(
            user, dict(sorted(done.get(name, Counter()).items())), last.get(name), refused[name],
            dormant=last.get(name, -1) < oldest,
        )
        for name, user in policy.users.items()
    )  # fmt: skip
    strangers = {who: count.total() for who, count in done.items() if who not in policy.users}
    return AccessAudit(
        at=now,
        days=days,
        users=users,
        strangers=dict(sorted(strangers.items())),
        tokens=_tokens(desk, policy, events, last, now),
        glass=tuple(one for one in entries if one.type is EventType.BREAK_GLASS),
        denials=_denials(events),
        events=len(events),
    )


def write_audit(desk: Desk, found: AccessAudit) -> tuple[Path, ...]:
    """Write both pages; where they are."""
    paths = tuple(desk.layout.root / page for page in PAGES)
    for path, text in zip(paths, (found.to_markdown(), found.to_html()), strict=True):
        write_atomic(path, text.encode())
    return paths


_Deed = tuple[str, str, Instant]


def _from_log(entries: Iterable[Entry]) -> Iterable[_Deed]:
    for entry in entries:
        yield entry.initiated_by, str(entry.type), entry.at


def _from_record(events: Iterable[Mapping[str, Any]]) -> Iterable[_Deed]:
    # What was done over HTTP stands in the log as well where it changed the registry; a token that
    # was asked for, and what somebody was let in for at a machine, stand here only.
    for event in events:
        if event["event"] in {"issued", "allowed"}:
            kind = "token" if event["event"] == "issued" else event["action"]
            yield event["subject"], kind, parse(event["at"])
        elif event["event"] == "done":
            yield event["subject"], f"{event['action']} over HTTP", parse(event["at"])


def _named(policy: AccessPolicy, who: str) -> str:
    """The user of an identity or of that name; the text itself where nobody has it."""
    if who in policy.users:
        return who
    return next((u.name for u in policy.users.values() if who in u.identities), who)


def _by_user(
    policy: AccessPolicy, deeds: Iterable[_Deed]
) -> tuple[dict[str, Counter[str]], dict[str, Instant]]:
    done: dict[str, Counter[str]] = {}
    last: dict[str, Instant] = {}
    for who, kind, at in deeds:
        name = _named(policy, who)
        done.setdefault(name, Counter())[kind] += 1
        # To be given a token by somebody else is no deed of one's own.
        if kind != "token":
            last[name] = max(last.get(name, at), at)
    return done, last


def _tokens(
    desk: Desk,
    policy: AccessPolicy,
    events: Sequence[Mapping[str, Any]],
    last: Mapping[str, Instant],
    now: Instant,
) -> tuple[TokenState, ...]:
    revoked = desk.authenticator.revocations.listed()
    found = []
    for event in events:
        if event["event"] != "issued":
            continue
        subject, at = event["subject"], parse(event["at"])
        by, until = until_of(event["detail"])
        state = _state(policy, revoked, event["resource"], subject, at, until, now)
        used = last.get(subject, -1) >= at
        found.append(
            TokenState(
                event["resource"], subject, at, until, by, state,
                dormant=state == "good" and not used,
            )
        )  # fmt: skip
    return tuple(found)


def _state(
    policy: AccessPolicy,
    revoked: Sequence[Revocation],
    token_id: str,
    subject: str,
    at: Instant,
    until: Instant | None,
    now: Instant,
) -> str:
    for one in revoked:
        if one.token_id == token_id or (one.subject == subject and at <= one.at):
            return f"revoked by {one.by}: {one.reason}"
    if until is not None and until <= now:
        return "ended"
    return "good" if subject in policy.users else "of no user"


def _denials(events: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str, int, str], ...]:
    times: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], str] = {}
    for event in events:
        if event["event"] == "refused":
            key = (event["subject"], event["code"])
            times[key] += 1
            last[key] = event["at"]
    return tuple((*key, count, last[key]) for key, count in times.most_common())


def _user_row(one: UserActivity) -> tuple[str, ...]:
    did = ", ".join(f"{times} {kind}" for kind, times in one.done.items())
    return (
        one.user.name, one.user.kind, ", ".join(one.user.roles), one.user.owner or "", did or "-",
        "never" if one.last is None else render(one.last)[:19], str(one.refused),
        "yes" if one.dormant else "no",
    )  # fmt: skip


def _token_row(one: TokenState) -> tuple[str, ...]:
    return (
        one.token_id[:12], one.subject, render(one.issued_at)[:19],
        "?" if one.until is None else render(one.until)[:19], one.by, one.state,
        "yes" if one.dormant else "no",
    )  # fmt: skip


def _row(cells: Iterable[str]) -> str:
    # A reason is anybody's text: it must not end its cell, or begin markup.
    plain = (cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return "| " + " | ".join(" ".join(cell.split()) for cell in plain) + " |"


def _table(columns: Sequence[str], rows: list[tuple[str, ...]]) -> Markup:
    if not rows:
        return element("p", "None.", class_="empty")
    return texts(columns, rows)
