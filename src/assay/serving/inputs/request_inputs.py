"""What a request brings beside its instrument, and the features made of it and of a stored row."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.domain.canonical import content_hash
from assay.errors import IncompatibleVersion, did_you_mean
from assay.features import Manifest, ManifestSet, RequestView
from assay.features.definition.compiler import compile_features
from assay.serving.inputs.feature_source import FeatureSource
from assay.serving.rejections import (
    INCOMPLETE_FEATURES,
    INPUT_NAMES,
    INPUT_TYPE,
    INPUT_VALUE,
    Rejected,
)

if TYPE_CHECKING:
    from assay.features import RequestFeatures


class RequestInputs:
    """A request view as serving needs it: reads inputs, and computes with the kernel of training.

    May be shared between threads: each has a program of its own.

    Parameters
    ----------
    view: what is computed from what.
    source: where the rows come from that the view reads beside the inputs.

    Attributes
    ----------
    manifest: hash of the set of the manifests of the stored view and of the request view: what
        models name that were trained on both.

    Raises
    ------
    IncompatibleVersion: the source's rows follow another manifest than the view was declared over.
    """

    def __init__(self, view: RequestView, source: FeatureSource) -> None:
        expected = ManifestSet.of(view.stored).hash
        if source.manifest != expected:
            raise IncompatibleVersion(
                f"request view {view.name} reads rows of manifest {expected}: the source has "
                f"{source.manifest}"
            )
        self.view = view
        self.source = source
        stored = {Manifest.of(one).hash for one in view.stored}
        self.manifest = content_hash(sorted(stored | {view.manifest_hash}))
        place = {name: index for index, name in enumerate((*source.names, *view.inputs))}
        self._reads = taker([place[name] for name in view.columns])
        self._own = threading.local()
        self._program()  # compiled now, and not for the first request

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values that :meth:`extend` appends."""
        return (*self.view.inputs, *self.view.feature_names)

    def read(self, given: Mapping[str, float] | None) -> dict[str, float]:
        """What a request brought, in the view's order.

        Raises
        ------
        Rejected: an input is missing, unknown, no number, or not finite.
        """
        given = given or {}
        try:
            brought = {name: given[name] for name in self.view.inputs}
        except KeyError:
            raise self._wrong_names(given) from None
        if len(given) != len(brought):
            raise self._wrong_names(given)
        for value in brought.values():
            # What is infinite or NaN has no difference from itself.
            if type(value) is not float or value - value != 0.0:
                return {name: _number(one, name) for name, one in brought.items()}
        return brought

    def extend(self, values: list[float], brought: Mapping[str, float]) -> list[float]:
        """Append to a row of the source what :meth:`read` gave, then the features, NaN where they
        have no value; return these.
        """
        values += brought.values()
        program: RequestFeatures | None = getattr(self._own, "program", None)
        features = (program or self._program()).compute_row(self._reads(values))
        values += features
        return features

    def unusable(
        self, name: str, value: float, stored: Mapping[str, float], brought: Mapping[str, float]
    ) -> Rejected:
        """Why a feature is no number that a model can read: a stored value is none, or the inputs
        lead to none.
        """
        reads = compile_features({name: self.view.features[name]}, None).columns
        for column in reads:
            if column in stored and not math.isfinite(stored[column]):
                return Rejected(
                    INCOMPLETE_FEATURES,
                    f"the stored feature {column} is {stored[column]}: {name} of request view "
                    f"{self.view.name} needs a number",
                    found=stored[column],
                    expected="a finite number",
                    hint="the instrument has too little history for this feature",
                )
        given = {key: one for key, one in brought.items() if key in reads}
        told = ", ".join(f"{key} {one!r}" for key, one in given.items()) or "the stored features"
        return Rejected(
            INPUT_VALUE,
            f"feature {name} of request view {self.view.name} is {value} for {told}: expected a "
            "finite number of float32's range",
            found=list(given.values()),
            expected=f"inputs for which {name} has a value",
        )

    def _program(self) -> RequestFeatures:
        from assay.features import RequestFeatures

        program = self._own.program = RequestFeatures(self.view)
        return program

    def _wrong_names(self, given: Mapping[str, Any]) -> Rejected:
        inputs = self.view.inputs
        missing = [name for name in inputs if name not in given]
        unknown = [str(name)[:80] for name in given if name not in inputs]
        parts = [
            f"{what} {', '.join(names[:4])}"
            + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        return Rejected(
            INPUT_NAMES,
            f"inputs of request view {self.view.name} are {'; '.join(parts)}",
            found=unknown or [str(name)[:80] for name in given],
            expected=missing or list(inputs),
            hint=did_you_mean(unknown[0], inputs)
            if unknown and inputs
            else 'send them as "request": {name: number}; GET /model lists them',
        )


def taker(places: Sequence[int]) -> Callable[[list[float]], Sequence[float]]:
    """Takes the values at these places out of a list, in one step; numpy takes longer for few."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]


def refuse_inputs(model: str, given: Mapping[str, float]) -> Rejected:
    """The refusal of inputs for a model that has no features of a request."""
    names = [str(name)[:80] for name in given]
    return Rejected(
        INPUT_NAMES,
        f"{model} takes no inputs of a request: found {', '.join(names[:4])}",
        found=names,
        expected=[],
        hint="leave request out",
    )


def _number(value: Any, name: str) -> float:
    # True is an int in Python, and no input.
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise Rejected(
            INPUT_TYPE,
            f"input {name} is {type(value).__name__} {str(value)[:80]!r}: expected a number",
            found=value,
            expected="a number",
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Rejected(
            INPUT_VALUE,
            f"input {name} is {number}: expected a finite number",
            found=value,
            expected="a finite number",
        )
    return number
