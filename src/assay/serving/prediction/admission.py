"""What a predictor refuses before it predicts, and how it says that a model failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant, from_datetime, render
from assay.errors import ContractViolation, IncompatibleVersion, did_you_mean
from assay.serving.models.live_model import LiveModel
from assay.serving.prediction.predictions import Limits
from assay.serving.rejections import (
    BATCH_TOO_LARGE,
    FUTURE_TIMESTAMP,
    INPUT_NAMES,
    INVALID_TIMESTAMP,
    MANIFEST_MISMATCH,
    MANIFEST_MISSING,
    MODEL_FAILED,
    Kind,
    Rejected,
)


def check_manifest(chosen: LiveModel, manifest: str | None, limits: Limits) -> None:
    """Refuse features of another manifest than a model's.

    Raises
    ------
    Rejected: the caller names another one, or none where it has to.
    """
    if manifest is None:
        if not limits.require_manifest or chosen.manifest is None:
            return
        raise Rejected(
            MANIFEST_MISSING,
            f"the request does not say which feature manifest it follows: {chosen.name} "
            f"v{chosen.version} reads {chosen.manifest}",
            expected=chosen.manifest,
            hint="send the header X-Assay-Manifest; GET /model tells the hash",
        )
    if manifest != chosen.manifest:
        raise Rejected(
            MANIFEST_MISMATCH,
            f"manifest {manifest[:80]!r}: {chosen.name} v{chosen.version} reads "
            f"{chosen.manifest or 'no manifest'}",
            found=manifest,
            expected=chosen.manifest,
            hint="compute the features by the model's manifest",
        )


def check_count(count: int, limits: Limits, what: str, none: Kind) -> None:
    """Refuse no rows, of the kind ``none``, and more than are taken together.

    Raises
    ------
    Rejected: says how many ``what`` may be.
    """
    if 1 <= count <= limits.batch_rows:
        return
    raise Rejected(
        BATCH_TOO_LARGE if count else none,
        f"the request has {count} {what}: expected 1 to {limits.batch_rows}",
        found=count,
        expected=f"1 to {limits.batch_rows}",
        hint="send several smaller requests" if count else None,
    )


def check_brought(brought: Mapping[str, object], instruments: Sequence[str]) -> None:
    """Refuse what a request brings for an instrument that it does not ask about.

    Raises
    ------
    Rejected: names it.
    """
    for name in brought:
        if name not in instruments:
            raise Rejected(
                INPUT_NAMES,
                f"requests has {name[:80]!r}, which is not among the instruments",
                found=name,
                expected=list(instruments),
                hint=did_you_mean(name[:80], instruments),
            )


def read_moment(moment: Instant | datetime, now: Instant) -> Instant:
    """The moment that a caller asks about.

    Raises
    ------
    Rejected: it is no moment, or comes after ``now``.
    """
    if isinstance(moment, datetime):
        try:
            moment = from_datetime(moment)
        except ContractViolation as error:
            raise Rejected(
                INVALID_TIMESTAMP,
                error.message,
                found=str(moment),
                expected="a time zone",
                hint=error.hint,
            ) from None
    if type(moment) is not int or not MIN_INSTANT <= moment <= MAX_INSTANT:
        raise Rejected(
            INVALID_TIMESTAMP,
            f"timestamp {moment!r}: expected int64 nanoseconds since the epoch",
            found=moment,
            expected="int64 nanoseconds since the epoch, or a datetime with a time zone",
        )
    if moment > now:
        raise Rejected(
            FUTURE_TIMESTAMP,
            f"timestamp {render(moment)} has not come yet: it is {render(now)}",
            found=render(moment),
            expected=f"{render(now)} or earlier",
            hint="leave the timestamp out to ask about now",
        )
    return moment


def no_answer(chosen: LiveModel, error: IncompatibleVersion) -> Rejected:
    """The refusal where a model gives no usable answer."""
    return Rejected(
        MODEL_FAILED,
        f"{chosen.name} v{chosen.version}: {error.message}",
        found="no usable answer",
        expected="a finite number",
    )
