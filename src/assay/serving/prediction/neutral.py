"""What is answered while predictions are switched off: nothing, or a number that means nothing.

A desk whose strategies take an error as a reason to stop wants a 503. One whose strategies must go
on, flat, wants the number without an opinion: 0.5 for the probability of a rise, 0 for weights. No
volatility and no other risk means nothing, so for those it is a 503 in any case. A neutral answer
says that it is one, and is never written down as a prediction.
"""

from __future__ import annotations

from typing import Any, Final

from assay.domain.instants import Instant, render
from assay.domain.versions import ALPHA_WEIGHTS
from assay.serving.models.live_model import LiveModel
from assay.serving.rejections import Rejected

REFUSE: Final = "refuse"
NEUTRAL: Final = "neutral"
HEADER: Final = (b"x-assay-neutral", b"1")


class NeutralAnswer:
    """What is answered for one model while predictions are switched off.

    Parameters
    ----------
    why: the refusal that it takes the place of.

    Raises
    ------
    Rejected: ``why``, where no number means nothing.
    """

    def __init__(self, model: LiveModel, why: Rejected, now: Instant) -> None:
        probability = model.model.gives_probability
        if not probability and model.kind != ALPHA_WEIGHTS:
            raise why
        self._model = model
        self._value = 0.5 if probability else 0.0
        self._confidence = 0.0 if probability else None
        self._said = {
            "model_version": model.label,
            "timestamp": render(now),
            "latency_ms": 0.0,
            "neutral": True,
            "reason": why.message,
        }

    def for_instrument(self, instrument: str) -> dict[str, Any]:
        """Answers ``POST /predict``."""
        return {
            "instrument": instrument,
            **self._signal(),
            "features_used": {},
            "model": self._model.name,
            "manifest": self._model.manifest,
            "feature_times": None,
            "stale": None,
            **self._said,
        }

    def for_instruments(self, instruments: list[str]) -> dict[str, Any]:
        """Answers ``POST /predict`` for several."""
        return {
            "predictions": [{"instrument": one, **self._signal()} for one in instruments],
            "refused": 0,
            "model": self._model.name,
            "manifest": self._model.manifest,
            **self._said,
        }

    def for_features(self) -> dict[str, Any]:
        """Answers ``POST /inference/predict``."""
        return {"prediction": self._value, "model_name": self._model.name, **self._said}

    def for_rows(self, count: int) -> dict[str, Any]:
        """Answers ``POST /inference/batch``."""
        return {
            "predictions": [self._value] * count,
            "model_name": self._model.name,
            **self._said,
        }

    def _signal(self) -> dict[str, Any]:
        return {
            "prediction": self._value,
            "direction": None,
            "confidence": self._confidence,
        }
