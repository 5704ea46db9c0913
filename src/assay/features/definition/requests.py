"""Features that need what a request brings, an order's size or a quote, beside stored ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from assay.domain.canonical import content_hash
from assay.domain.order import ORDER_COLUMNS
from assay.errors import DefinitionError, did_you_mean
from assay.features.definition.compiler import Plan, compile_features
from assay.features.definition.expressions import Expression
from assay.features.definition.manifest import Manifest
from assay.features.definition.names import check_name
from assay.features.definition.operations.tree import Tree
from assay.features.definition.operators import OPERATORS
from assay.features.definition.views import FeatureView


@dataclass(frozen=True)
class RequestView:
    """Features computed from what a request brings and from stored features, row by row.

    The expressions are those of any view, over ``col`` of an input or of a stored feature; the same
    kernel computes them for history and for a request. A request has no history: windows, lags and
    cross-sections belong into the views that are stored.

    Parameters
    ----------
    name: lower case, as in files and stores.
    stored: the views whose features the expressions read.
    inputs: what a request brings, as names of numbers.
    features: name -> expression, in the order of the output.

    Raises
    ------
    DefinitionError: a name is illegal, taken or unknown, two views share a feature, or an operator
        needs other rows than the request's own.
    """

    name: str
    stored: tuple[FeatureView, ...]
    inputs: tuple[str, ...]
    features: Mapping[str, Expression]
    plan: Plan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name("name of the view", self.name)
        self._check_kinds()
        object.__setattr__(self, "stored", tuple(self.stored))
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))
        known = [name for view in self.stored for name in view.feature_names]
        names = Counter([*self.inputs, *known])
        for name in (*self.inputs, *self.features):
            check_name(f"view {self.name}: name", name)
        keys = {"as_of", *ORDER_COLUMNS, *(view.entity for view in self.stored)}
        for name, count in names.items():
            if name in keys:
                raise DefinitionError(
                    f"view {self.name}: {name} is the name of a key column of past requests",
                    hint="keys are " + ", ".join(sorted(keys)) + "; name it otherwise",
                )
            if count > 1:
                raise DefinitionError(
                    f"view {self.name}: {name} is there {count} times among inputs and stored "
                    "features",
                    hint="name the input otherwise, or read one of the views only",
                )
        if not self.features:
            raise DefinitionError(f"view {self.name}: no features")
        taken = {*names, *keys}
        for name, expression in self.features.items():
            if name in taken:
                raise DefinitionError(f"view {self.name}: {name} is read already, or a key column")
            if not isinstance(expression, Expression):
                raise DefinitionError(
                    f"view {self.name}: feature {name} is {type(expression).__name__}, expected an "
                    "expression such as col('order_size') / col('vol_20')"
                )
            _check_rows(self.name, name, expression, names)
        object.__setattr__(self, "plan", compile_features(self.features, None))

    def _check_kinds(self) -> None:
        """Refuse one view or name where several are expected: a text is letters to Python."""
        views, inputs, features = self.stored, self.inputs, self.features
        several = isinstance(views, tuple | list)
        if not several or not all(isinstance(view, FeatureView) for view in views):
            raise DefinitionError(
                f"view {self.name}: stored {views!r}, expected the views that it reads",
                hint="stored=(fx_daily,)",
            )
        if not isinstance(inputs, tuple | list):
            raise DefinitionError(
                f"view {self.name}: inputs {inputs!r}, expected their names",
                hint='inputs=("order_size", "quote")',
            )
        if not isinstance(features, Mapping):
            raise DefinitionError(
                f"view {self.name}: features {features!r}, expected expressions by name",
                hint='features={"risk": col("order_size") * col("vol_20")}',
            )

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features in the order of the output."""
        return tuple(self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """Inputs and stored features that the expressions read; sorted."""
        return self.plan.columns

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What decides a value: the program, the inputs, and the manifests of the stored views."""
        return {
            "format": 1,
            "view": self.name,
            "inputs": list(self.inputs),
            "stored": [Manifest.of(view).hash for view in self.stored],
            "features": [[name, item.identity] for name, item in self.features.items()],
            "definitions": {name: repr(item) for name, item in self.features.items()},
            "plan": self.plan.to_json(),
        }

    @cached_property
    def manifest_hash(self) -> str:
        """SHA-256 of the manifest's canonical form."""
        return content_hash(self.manifest)


def _check_rows(view: str, feature: str, root: Expression, names: Collection[str]) -> None:
    """Refuse what a single row cannot give, and columns that nobody brings."""
    pending: list[Tree] = [root]
    seen = set[str]()
    while pending:
        expression = pending.pop()
        if expression.identity in seen:
            continue  # what is read twice is checked once: a chain of such would take for ever
        seen.add(expression.identity)
        operator = OPERATORS[expression.operator]
        if operator.across or operator.reach != "0" or expression.operator in _NOT_OF_A_REQUEST:
            raise DefinitionError(
                f"view {view}: {feature} has {operator.name}, which needs other rows than the "
                "request's own",
                hint="make it a feature of a stored view and read that by name",
            )
        name = str(expression.parameter("name"))
        if expression.operator == "col" and name not in names:
            raise DefinitionError(
                f"view {view}: {feature} reads {name!r}, which is no input and no stored feature",
                hint=did_you_mean(name, names),
            )
        pending.extend(expression.inputs)


_NOT_OF_A_REQUEST = ("calendar", "in_session", "since_open", "until_close", "half_day")
