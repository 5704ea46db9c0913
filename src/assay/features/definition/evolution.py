"""How a view may change while its rows are served: features are added at the end, nothing else.

The manifests of a view that were in use, one after the other, are its line. Rows are written under
one manifest of the line and read under another, by name: so a name means the same in all of them.
A feature that an older row does not have yet is missing in it.

Laws: the relation is transitive along a line; a manifest agrees with itself; agreement does not
depend on which of two manifests is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assay.features.definition.manifest import Manifest

_FREE = frozenset({"features", "definitions", "columns", "plan", "calendars", "ttl", "lateness"})
"""Parts of the document that are compared by what they mean, or that change no value.

Time to live and lateness decide how long a row is served and issued again, not what is in it.
"""


@dataclass(frozen=True, slots=True)
class Evolution:
    """What became of a view from one manifest to the next.

    Attributes
    ----------
    added: names of the features that the new one has at its end.
    obstacles: why it is not an addition, one sentence each; empty where it is one.
    """

    view: str
    before: str
    after: str
    added: tuple[str, ...]
    obstacles: tuple[str, ...]

    @property
    def is_additive(self) -> bool:
        """Whether readers of either manifest can read rows of the other."""
        return not self.obstacles

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "before": self.before,
            "after": self.after,
            "added": list(self.added),
            "obstacles": list(self.obstacles),
            "is_additive": self.is_additive,
        }


def check_evolution(before: Manifest, after: Manifest) -> Evolution:
    """Whether ``after`` only adds features at the end of ``before``; why not, where it does more.

    What other features, calendars or columns the additions need is no matter. The same features in
    another order are no addition: a row's values stand in the order of its manifest, and names that
    move are a change that somebody has to have meant.
    """
    old, new = before.feature_names, after.feature_names
    obstacles = list(_contradictions(before, after))
    removed = [name for name in old if name not in new]
    obstacles += [f"feature {name} is gone" for name in removed]
    kept = [name for name in new if name in old]
    if not removed and kept != list(old):
        moved = next(name for name, was in zip(kept, old, strict=True) if name != was)
        obstacles.append(f"feature {moved} stands in another place")
    elif not removed and new[: len(old)] != old:
        early = next(name for name in new if name not in old)
        obstacles.append(f"feature {early} is new and does not stand at the end")
    added = tuple(name for name in new if name not in old)
    return Evolution(after.view, before.hash, after.hash, added, tuple(obstacles))


def agree(one: Manifest, other: Manifest) -> bool:
    """Whether names that both manifests have mean the same, so that rows are read by name."""
    return next(_contradictions(one, other), None) is None


def _contradictions(one: Manifest, other: Manifest) -> Iterator[str]:
    """What two manifests say differently about the same thing, one sentence each."""
    left, right = one.document, other.document
    for key in sorted((set(left) | set(right)) - _FREE):
        if left.get(key) != right.get(key):
            yield f"{key} was {left.get(key)!r} and is {right.get(key)!r}"
    meanings = dict(left["features"])
    words = left["definitions"], right["definitions"]
    for name, identity in right["features"]:
        if meanings.get(name, identity) != identity:
            yield f"feature {name} was {words[0][name]} and is {words[1][name]}"
    for what, mine, theirs in (
        ("calendar", left["calendars"], right["calendars"]),
        ("operator", left["plan"]["operators"], right["plan"]["operators"]),
        ("instruction", _instructions(one), _instructions(other)),
    ):
        for name in sorted(set(mine) & set(theirs)):
            if mine[name] != theirs[name]:
                yield f"{what} {name} is another one now"


def _instructions(manifest: Manifest) -> dict[str, int]:
    """The versions of the kernel's instructions that a view uses."""
    plan = manifest.document["plan"]
    stages = [stage for stage in (plan["first_stage"], plan["second_stage"]) if stage is not None]
    return {str(step[0]): int(step[1]) for stage in stages for step in stage["instructions"]}
