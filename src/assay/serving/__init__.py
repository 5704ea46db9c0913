"""From a verified model to an answered request, from the inside out.

1. :mod:`~assay.serving.models`: ONNX models in memory, and snapshots of what is live.
2. :mod:`~assay.serving.inputs`: the features that a model is asked with.
3. :mod:`~assay.serving.prediction`: :class:`Predictor`, which answers in process or refuses with a
   reason (:mod:`~assay.serving.rejections`); :mod:`~assay.serving.async_predictor` is for event
   loops.
4. :mod:`~assay.serving.formats`: requests and answers as bytes.
5. :mod:`~assay.serving.telemetry`: metrics, traces, and the log of what was answered.
6. :mod:`~assay.serving.challengers`: shadows and canaries beside production.
7. :mod:`~assay.serving.reloading` exchanges what is live without losing a request.
8. :mod:`~assay.serving.requests`: ids, deadlines, reads of slow stores.
9. :mod:`~assay.serving.http` and :mod:`~assay.serving.grpc`: the faces of a service.
10. :mod:`~assay.serving.server`: the processes that it runs in.
"""

from assay.serving.async_predictor import AsyncPredictor
from assay.serving.inputs.feature_source import FeatureSource, SourceRow, SourceState, states_of
from assay.serving.inputs.request_inputs import RequestInputs
from assay.serving.models.live_model import (
    CHAMPION,
    CanaryRoute,
    ChallengerSource,
    Deployed,
    LiveModel,
    LiveModels,
    LiveSource,
)
from assay.serving.models.onnx_model import OnnxModel, Runtime
from assay.serving.prediction.kill_switch import Kill, KillSwitch
from assay.serving.prediction.predictions import BatchPrediction, Limits, Prediction
from assay.serving.prediction.predictor import Predictor
from assay.serving.prediction.service_record import ServiceRecord
from assay.serving.rejections import Kind, Rejected

__all__ = [
    "CHAMPION",
    "AsyncPredictor",
    "BatchPrediction",
    "CanaryRoute",
    "ChallengerSource",
    "Deployed",
    "FeatureSource",
    "Kill",
    "KillSwitch",
    "Kind",
    "Limits",
    "LiveModel",
    "LiveModels",
    "LiveSource",
    "OnnxModel",
    "Prediction",
    "Predictor",
    "Rejected",
    "RequestInputs",
    "Runtime",
    "ServiceRecord",
    "SourceRow",
    "SourceState",
    "states_of",
]
