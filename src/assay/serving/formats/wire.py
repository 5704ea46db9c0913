"""Bodies of the prediction routes: what is read, what is answered, and what was wrong with them."""

from __future__ import annotations

import json
import math
import re
import struct
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, cast

import msgspec
import numpy as np

from assay.domain.instants import Instant, parse, render
from assay.errors import ContractViolation
from assay.serving.inputs.rows import Rows
from assay.serving.models.live_model import CHAMPION, LiveModel
from assay.serving.prediction.predictions import BatchPrediction, Prediction, Question
from assay.serving.rejections import (
    FEATURE_TYPE,
    FEATURE_VALUE,
    INPUT_TYPE,
    INPUT_VALUE,
    INVALID_BODY,
    INVALID_TIMESTAMP,
    MALFORMED_BODY,
    Rejected,
)

_COMPLAINT = re.compile(r"Expected `(?P<expected>.+?)`, got `(?P<found>.+?)`")
_NUMBER = re.compile(r"\$\.(features|batch\[\d+\]|request)\[")
_INPUTS = "$.request"
_NUMBERS = ("$.features", "$.batch", _INPUTS)
_PLACE = re.compile(r"- at `(?P<place>[^`]+)`$")
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Predict for an instrument, with the features that were known at a moment.

    ``request`` holds what the request itself brings, by name, for a model with features of a
    request view: all of the view's inputs, finite numbers. ``GET /model`` lists them.
    """

    instrument: str
    timestamp: str | None = None
    model: str = CHAMPION
    request: Annotated[
        dict[str, float] | None,
        msgspec.Meta(
            description="What the request brings: the inputs of the model's request view.",
            examples=[{"order_size": 1e6, "quote": 1.0931}],
        ),
    ] = None


class PredictManyRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Predict for several instruments at one moment, by one version.

    ``requests`` holds what the request brings for each instrument that needs it.
    """

    instruments: list[str]
    timestamp: str | None = None
    model: str = CHAMPION
    requests: dict[str, dict[str, float]] | None = None


class InferenceRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Predict from features: numbers in the model's order, or by name.

    ``feature_names`` says which order the caller has in mind, and is checked. ``instrument`` says
    whose features they are: with it a canary may answer, which takes its share of the instruments.
    """

    features: list[float] | dict[str, float]
    model_name: str = CHAMPION
    feature_names: list[str] | None = None
    instrument: str | None = None


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Predict from several rows of features; with ``instrument`` all of one instrument, which a
    canary may answer for.
    """

    batch: list[list[float] | dict[str, float]]
    model_name: str = CHAMPION
    feature_names: list[str] | None = None
    instrument: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457) with the value found and what was expected."""

    type: str
    title: str
    status: int
    detail: str
    found: Any
    expected: Any
    hint: str | msgspec.UnsetType = msgspec.UNSET


class FeatureTimes(msgspec.Struct, frozen=True):
    """When the features happened, and when they were known."""

    event_time: str
    known_time: str


class PredictAnswer(msgspec.Struct, frozen=True):
    """A prediction for an instrument, and what it rests on."""

    instrument: str
    prediction: float
    direction: str | None
    confidence: float | None
    features_used: dict[str, float]
    model: str
    model_version: str
    manifest: str | None
    feature_times: FeatureTimes
    stale: bool
    timestamp: str
    latency_ms: float


class EntityAnswer(msgspec.Struct, frozen=True):
    """The part of a :class:`PredictManyAnswer` about one instrument: a prediction, or the problem
    document that says why there is none.
    """

    instrument: str
    prediction: float | msgspec.UnsetType = msgspec.UNSET
    direction: str | msgspec.UnsetType | None = msgspec.UNSET
    confidence: float | msgspec.UnsetType | None = msgspec.UNSET
    features_used: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    feature_times: FeatureTimes | msgspec.UnsetType = msgspec.UNSET
    stale: bool | msgspec.UnsetType | None = msgspec.UNSET
    problem: Problem | msgspec.UnsetType = msgspec.UNSET


class PredictManyAnswer(msgspec.Struct, frozen=True):
    """Predictions for several instruments, in their order, all by one version."""

    predictions: list[EntityAnswer]
    refused: int
    model: str
    model_version: str
    manifest: str | None
    timestamp: str
    latency_ms: float


class InferenceAnswer(msgspec.Struct, frozen=True):
    """A prediction from features."""

    prediction: float
    model_name: str
    model_version: str
    latency_ms: float
    timestamp: str


class BatchAnswer(msgspec.Struct, frozen=True):
    """Predictions from rows of features, in their order, all by one version."""

    predictions: list[float]
    model_name: str
    model_version: str
    latency_ms: float
    timestamp: str


encode = msgspec.json.Encoder().encode
render_again = lru_cache(maxsize=4_096)(render)
"""For the times of rows, each of which answers many requests, and of what is written down too."""
decode_predict = msgspec.json.Decoder(PredictRequest).decode
decode_predict_many = msgspec.json.Decoder(PredictManyRequest).decode
decode_inference = msgspec.json.Decoder(InferenceRequest).decode
decode_batch = msgspec.json.Decoder(BatchRequest).decode


def read_rows(batch: list[list[float] | dict[str, float]]) -> Rows:
    """The rows of a batch as an array, if they all are lists of one length; else as they are."""
    if not batch or {type(row) for row in batch} != {list}:
        return batch
    width = len(batch[0])
    if {len(row) for row in batch} != {width}:
        return batch
    rows = np.empty((len(batch), width))
    # Half the time that numpy takes to read lists, which looks at the type of every number.
    struct.pack_into(f"{rows.size}d", rows.data, 0, *chain.from_iterable(batch))
    return rows


def predict_answer(made: Prediction) -> bytes:
    """The body that answers ``POST /predict``."""
    model = made.model
    assert made.instrument is not None
    assert made.event_time is not None
    assert made.known_time is not None
    return encode(
        PredictAnswer(
            made.instrument,
            made.value,
            made.direction,
            made.confidence,
            _by_name(made),
            model.name,
            model.label,
            model.manifest,
            FeatureTimes(render_again(made.event_time), render_again(made.known_time)),
            bool(made.stale),
            render_again(made.at),
            made.elapsed / 1e6,
        )
    )


def _by_name(made: Prediction) -> dict[str, float]:
    """The features by name, as a dictionary or as the JSON of one."""
    if made.read is not None:
        return cast("dict[str, float]", made.read.by_name)  # is encoded as what it is
    return dict(zip(made.model.schema.names, made.features, strict=True))


def predict_many_answer(asked: Question, made: list[Prediction | Rejected]) -> bytes:
    """The body that answers ``POST /predict`` for several instruments."""
    entries = []
    for instrument, one in zip(asked.instruments, made, strict=True):
        if isinstance(one, Rejected):
            entries.append(EntityAnswer(instrument, problem=Problem(**one.document())))
            continue
        assert one.event_time is not None
        assert one.known_time is not None
        entries.append(
            EntityAnswer(
                instrument,
                one.value,
                one.direction,
                one.confidence,
                _by_name(one),
                FeatureTimes(render_again(one.event_time), render_again(one.known_time)),
                one.stale,
            )
        )
    taken = [one.elapsed for one in made if not isinstance(one, Rejected)]
    return encode(
        PredictManyAnswer(
            entries,
            len(made) - len(taken),
            asked.model.name,
            asked.model.label,
            asked.model.manifest,
            render(asked.moment),
            max(taken, default=0) / 1e6,
        )
    )


def inference_answer(made: Prediction) -> bytes:
    """The body that answers ``POST /inference/predict``."""
    model, at = made.model, render_again(made.at)
    return encode(InferenceAnswer(made.value, model.name, model.label, made.elapsed / 1e6, at))


def batch_answer(made: BatchPrediction) -> bytes:
    """The body that answers ``POST /inference/batch``."""
    model, at = made.model, render_again(made.at)
    return encode(BatchAnswer(made.values, model.name, model.label, made.elapsed / 1e6, at))


def read_timestamp(text: str) -> Instant:
    """The moment that a request's timestamp means.

    Raises
    ------
    Rejected: it has no zone, or is no time.
    """
    try:
        return parse(text)
    except ContractViolation as error:
        raise Rejected(
            INVALID_TIMESTAMP,
            error.message if len(text) < 100 else "the timestamp is too long to be one",
            found=text,
            expected="ISO 8601 with a time zone, such as 2026-01-15T10:30:00Z",
            hint=error.hint,
        ) from None


def explain(body: bytes, error: Exception, model: LiveModel | None) -> Rejected:
    """What is wrong with a body that could not be read, as precisely as can be told.

    JSON as Python writes it may hold NaN and Infinity. They are no JSON, but saying so would not
    help the sender: they are read here, and refused as the feature values that they are.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Rejected(
            MALFORMED_BODY, f"the body is not JSON: {error}", found=_start(body),
            expected="a JSON object",
        )  # fmt: skip
    if not isinstance(error, msgspec.ValidationError):
        special = _special_number(document)
        if special is None:
            return Rejected(
                MALFORMED_BODY, f"the body is not JSON: {error}", found=_start(body),
                expected="JSON as in RFC 8259",
            )  # fmt: skip
        place, value = special
        return Rejected(
            INPUT_VALUE if place.startswith(_INPUTS) else FEATURE_VALUE,
            f"{_named(place, model)} is {value}: expected a finite number",
            found=value,
            expected="a finite number",
        )
    return _explain_form(document, str(error), model)


def _explain_form(document: Any, complaint: str, model: LiveModel | None) -> Rejected:
    at = _PLACE.search(complaint)
    place = at["place"] if at else "$"
    kinds = _COMPLAINT.search(complaint)
    place, found = _follow(document, place, complaint)
    text = complaint[: at.start()].strip() if at else complaint
    if "out of range" in complaint and _NUMBER.match(place):
        inputs = place.startswith(_INPUTS)
        width = "float64" if inputs else "float32"
        return Rejected(
            INPUT_VALUE if inputs else FEATURE_VALUE,
            f"{_named(place, model)} is out of range: expected a number of {width}'s range",
            found=found,
            expected=f"a finite number of {width}'s range",
        )
    if kinds is not None and _NUMBER.match(place):
        return Rejected(
            INPUT_TYPE if place.startswith(_INPUTS) else FEATURE_TYPE,
            f"{_named(place, model)} is {kinds['found']}: expected a number",
            found=found,
            expected="a number",
        )
    return Rejected(
        INVALID_BODY,
        f"{text[0].lower()}{text[1:]}" + (f", at {place}" if at else ""),
        found=sorted(document) if place == "$" and isinstance(document, dict) else found,
        expected=kinds["expected"] if kinds else "the documented fields; see /docs",
    )


def _follow(document: Any, place: str, complaint: str) -> tuple[str, Any]:
    """The value at a place such as ``$.features[3]``; ``[...]`` is the first one that offends."""
    value, path = document, "$"
    for step in _STEP.finditer(place):
        if step["key"] is not None:
            value, path = value.get(step["key"]), f"{path}.{step['key']}"
        elif step["index"] is not None:
            value, path = value[int(step["index"])], f"{path}[{step['index']}]"
        else:
            offends = _is_out_of_range if "out of range" in complaint else _is_no_number
            name = next((key for key, item in value.items() if offends(item)), None)
            if name is None:
                break
            value, path = value[name], f"{path}[{name}]"
    return path, value


def _is_no_number(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float)


def _is_out_of_range(value: Any) -> bool:
    return isinstance(value, float | int) and not abs(value) < 1e308


def _special_number(document: Any) -> tuple[str, float] | None:
    """The first NaN or infinity of a document, and where it stands."""
    waiting: list[tuple[str, Any]] = [("$", document)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return place, value
        if isinstance(value, dict):
            join = "{}[{}]" if place.startswith(_NUMBERS) else "{}.{}"
            waiting.extend((join.format(place, key), item) for key, item in value.items())
        elif isinstance(value, list):
            waiting.extend((f"{place}[{n}]", item) for n, item in enumerate(value))
    return None


def _named(place: str, model: LiveModel | None) -> str:
    """``$.features[3]`` as a person says it, with the column's name where the model is known."""
    steps = re.findall(r"\[([^\]]*)\]", place)
    if not steps or not place.startswith(_NUMBERS):
        return place[:120]
    row = f"row {steps[0]}: " if place.startswith("$.batch") and len(steps) > 1 else ""
    last = steps[-1]
    if place.startswith(_INPUTS):
        return f"input {last[:80]}"
    if not last.isdigit():
        return f"{row}feature {last[:80]}"
    names = model.schema.names if model is not None else ()
    name = f" ({names[int(last)]})" if int(last) < len(names) else ""
    return f"{row}feature {last}{name}"


def _start(body: bytes) -> str:
    return body[:80].decode("utf-8", "replace") or "nothing"
