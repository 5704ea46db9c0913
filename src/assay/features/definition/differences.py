"""What changed between two manifests, in terms of what was written."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from assay.features.definition.windows import length_in_words

_TOLD_APART: Final = ("features", "definitions", "plan", "calendars")
_STAGES: Final = ("first_stage", "second_stage")
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same.

    Attributes
    ----------
    what: feature, feature order, calendar, operator, instruction, program, or the part of the
        manifest, such as bars or lateness.
    name: which one; empty where there is only one.
    before, after: how it is written; None where it is not there.
    parts: where a feature or calendar changed, the places in it with what stood and stands there.
    """

    what: str
    name: str
    before: Any
    after: Any
    parts: tuple[tuple[str, Any, Any], ...] = ()

    @property
    def kind(self) -> str:
        """added, removed or changed."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "name": self.name,
            "kind": self.kind,
            "before": self.before,
            "after": self.after,
            "parts": [list(part) for part in self.parts],
        }


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What is not the same in two documents of manifests; nothing exactly when they are equal."""
    found = [
        *_features(before, after),
        *_by_name("calendar", before.get("calendars", {}), after.get("calendars", {})),
    ]
    for part in sorted({*before, *after} - {*_TOLD_APART}):
        found += _part(part, before.get(part, _MISSING), after.get(part, _MISSING))
    found += _plan(before.get("plan", {}), after.get("plan", {}), explained=bool(found))
    if not found and before != after:
        found.append(Difference("program", "", "one", "another"))
    return tuple(found)


def _features(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    old, new = (dict(document.get("features", [])) for document in (before, after))
    texts = [document.get("definitions", {}) for document in (before, after)]
    for name in dict.fromkeys((*old, *new)):
        was, now = (str(text.get(name, "")) for text in texts)
        if name not in new:
            yield Difference("feature", name, was, None)
        elif name not in old:
            yield Difference("feature", name, None, now)
        elif (old[name], was) != (new[name], now):
            yield Difference("feature", name, was, now, tuple(expression_changes(was, now)))
    common = [[name for name in one if name in old and name in new] for one in (old, new)]
    if common[0] != common[1]:
        yield Difference("feature order", "", list(old), list(new))


def expression_changes(before: str, after: str) -> Iterator[tuple[str, str | None, str | None]]:
    """The smallest places at which two expressions differ, and what stands there.

    A place is the operator that it belongs to, and the parameter where it is one.
    """
    try:
        trees = [ast.parse(text, mode="eval").body for text in (before, after)]
        found = list(_changes(trees[0], trees[1], "expression"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # A column whose name is no name of Python, or a chain deeper than its parser goes.
        found = [("expression", before, after)]
    yield from found


def _changes(
    before: ast.expr, after: ast.expr, place: str
) -> Iterator[tuple[str, str | None, str | None]]:
    if ast.dump(before) == ast.dump(after):
        return
    alike = (
        isinstance(before, ast.Call)
        and isinstance(after, ast.Call)
        and ast.dump(before.func) == ast.dump(after.func)
        and len(before.args) == len(after.args)
    )
    if not alike:
        yield place, ast.unparse(before), ast.unparse(after)
        return
    assert isinstance(before, ast.Call)
    assert isinstance(after, ast.Call)
    operator = ast.unparse(before.func)
    for one, other in zip(before.args, after.args, strict=True):
        yield from _changes(one, other, operator)
    old, new = (
        {str(item.arg): ast.unparse(item.value) for item in call.keywords}
        for call in (before, after)
    )
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield (
                f"{operator} {name}",
                _length(name, old.get(name)),
                _length(name, new.get(name)),
            )


def _length(name: str, value: str | None) -> str | None:
    return length_in_words(int(value)) if name == "nanos" and value else value


def _by_name(
    what: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was != now:
            parts: tuple[tuple[str, Any, Any], ...] = ()
            if isinstance(was, dict) and isinstance(now, dict):
                parts = tuple(
                    (key, was.get(key), now.get(key))
                    for key in sorted({*was, *now})
                    if was.get(key) != now.get(key)
                )
            yield Difference(what, name, was, now, parts)


def _part(part: str, before: Any, after: Any) -> Iterator[Difference]:
    """A part of the manifest, by the smallest entries that differ."""
    if before == after:
        return
    old, new = (_entries(value) for value in (before, after))
    found = [
        Difference(part, name, old.get(name), new.get(name))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]
    # Such as another order, or null in place of nothing.
    yield from found or [Difference(part, "", _plain(before), _plain(after))]


def _plain(value: Any) -> Any:
    return "nothing" if value is _MISSING else "null" if value is None else value


def _entries(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of a nested document by their dotted names; lengths and columns in words."""
    if value is _MISSING:
        return {}
    if isinstance(value, dict):
        if set(value) == {"nanoseconds"} and type(value["nanoseconds"]) is int:
            return {name: length_in_words(value["nanoseconds"])}
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= _entries(inner, f"{name}.{key}" if name else str(key))
        return found
    if name == "columns" and _is_aggregates(value):
        return {f"{name}.{one}": f"{kind}({column or ''})" for one, kind, column in value}
    return {name: value}


def _is_aggregates(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list) and len(one) == 3 and isinstance(one[0], str) for one in value
    )


def _plan(
    before: Mapping[str, Any], after: Mapping[str, Any], *, explained: bool
) -> Iterator[Difference]:
    for what, pairs in (
        ("operator", [plan.get("operators", {}) for plan in (before, after)]),
        ("instruction", [_instructions(plan) for plan in (before, after)]),
    ):
        for one in _by_name(what, *pairs):
            # Which ones there are follows from the features; their versions do not.
            if one.kind == "changed" or not explained:
                yield one
    rest = sorted({*before, *after} - {"operators", *_STAGES, "handed_on"})
    for name in rest:
        if before.get(name) != after.get(name):
            yield Difference(name.replace("_", "-"), "", before.get(name), after.get(name))
    if explained:
        return
    for stage in _STAGES:
        was, now = (plan.get(stage) for plan in (before, after))
        if was != now:
            yield Difference("program", stage, _size(was), _size(now))
    if before.get("handed_on") != after.get("handed_on"):
        yield Difference("program", "handed_on", before.get("handed_on"), after.get("handed_on"))


def _size(stage: Mapping[str, Any] | None) -> str | None:
    return None if stage is None else f"{len(stage.get('instructions', ()))} instructions"


def _instructions(plan: Mapping[str, Any]) -> dict[str, int]:
    return {
        name: version
        for stage in _STAGES
        for name, version, *_ in (plan.get(stage) or {}).get("instructions", ())
    }
