"""Other entities: those of the same event time, and named ones as of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Self, TypeVar

from assay.errors import DefinitionError
from assay.features.definition.operations.tree import Tree, constant, node, number, whole
from assay.features.definition.windows import LONGEST, Duration


class Across(Tree):
    """Operators across the members of the view's universe, and the look at a named entity."""

    __slots__ = ()

    def cs_rank(self) -> Self:
        """Percent rank in (0, 1] among members at the same event time; ties share their mean."""
        return node(type(self), "cs_rank", self)

    def cs_demean(self) -> Self:
        """The value less the members' mean at the same event time."""
        return node(type(self), "cs_demean", self)

    def cs_zscore(self) -> Self:
        """Distance from the members' mean in their sample standard deviations."""
        return node(type(self), "cs_zscore", self)

    def of(self, entity: str, *, within: Duration, own: bool = True) -> Self:
        """What this is for another entity, in its latest row up to this row's event time.

        Parameters
        ----------
        entity: its name; ``col("mid").of("EURUSD", within=Duration.of(minutes=5))``.
        within: how old that row may be; missing when it is older.
        own: whether the entity's own rows have a value (their own), or none.
        """
        if not entity or not isinstance(entity, str):
            raise DefinitionError(f"of({entity!r}): expected the name of an entity")
        if not isinstance(within, Duration):
            raise DefinitionError(
                f"of({entity!r}): within {within!r}, expected how old the other row may be",
                hint="within=Duration.of(minutes=5)",
            )
        if within.nanos > LONGEST:
            raise DefinitionError(
                f"of({entity!r}): {within}, expected at most {LONGEST} nanoseconds"
            )
        if type(own) is not bool:
            raise DefinitionError(f"of({entity!r}): own {own!r}, expected True or False")
        return node(type(self), "of", self, entity=entity, own=int(own), within=within.nanos)

    def of_basket(
        self,
        weights: Mapping[str, float],
        *,
        within: Duration,
        min_count: int | None = None,
        own: bool = True,
    ) -> Self:
        """The weighted mean of what this is for the entities of a basket; see :meth:`of`.

        Parameters
        ----------
        weights: entity -> weight above zero; they need not add up to one.
        within: how old each entity's row may be.
        min_count: how many entities must have a value, by default all that count; the mean is over
            those that have one.
        own: whether an entity counts in its own basket. Without it, a currency stands against the
            others.
        """
        _check_weights(weights)
        everyone = len(weights)
        least = everyone if min_count is None else whole("of_basket", "min_count", min_count)
        if not 1 <= least <= everyone:
            raise DefinitionError(f"of_basket: min_count {min_count}, expected 1 to {everyone}")
        make = type(self)
        values, taken, there, left_out = [], [], [], []
        for entity in sorted(weights):
            value, weight = self.of(entity, within=within, own=own), float(weights[entity])
            valid = node(make, "is_valid", value)
            values.append(node(make, "mul", node(make, "fill_missing", value, value=0.0), weight))
            taken.append(node(make, "mul", valid, weight))
            there.append(valid)
            left_out.append(_is_own(make, entity, within))
        needed = constant(make, float(least))
        if not own and least == everyone:
            needed = node(make, "sub", needed, _sum(left_out))
        enough = node(make, "le", needed, _sum(there))
        # Too few values: the divisor is 0, and the quotient missing.
        return node(make, "div", _sum(values), node(make, "mul", _sum(taken), enough))


_Across = TypeVar("_Across", bound=Across)


def _check_weights(weights: object) -> None:
    example = 'of_basket({"EURUSD": 0.6, "USDJPY": 0.4}, within=...)'
    if not isinstance(weights, Mapping) or not weights:
        raise DefinitionError(
            f"of_basket: weights {weights!r}, expected at least one, by entity", hint=example
        )
    for entity, weight in weights.items():
        if not isinstance(entity, str):
            raise DefinitionError(
                f"of_basket: {entity!r}, expected the name of an entity", hint=example
            )
        if number("of_basket", weight) <= 0.0:
            raise DefinitionError(f"of_basket: weight {weight} of {entity}, expected above 0")


def _sum(terms: list[_Across]) -> _Across:
    return reduce(lambda total, term: node(type(total), "add", total, term), terms)


def _is_own(make: type[_Across], entity: str, within: Duration) -> _Across:
    """1 in the rows of the entity itself, else 0: where only leaving it out makes it missing."""
    one = constant(make, 1.0)
    with_own, without = (
        node(make, "is_valid", one.of(entity, within=within, own=own)) for own in (True, False)
    )
    return node(make, "sub", with_own, without)
