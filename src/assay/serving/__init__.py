"""From a verified model to an answered request.

1. :mod:`~assay.serving.onnx_model` loads one ONNX model from bytes and answers rows of floats.
2. :mod:`~assay.serving.live_model`: immutable snapshots of what is live, and the side of the
   registry that serving sees.
3. :mod:`~assay.serving.feature_source`: where an instrument's features come from;
   :mod:`~assay.serving.request_inputs`: what a request adds to them;
   :mod:`~assay.serving.wiring`: a model's way to both.
4. :mod:`~assay.serving.predictor` answers in process: it checks names, order, types, manifest, age
   and the kill switch (:mod:`~assay.serving.kill_switch`), reads the rows that callers bring
   (:mod:`~assay.serving.rows`), and refuses with a reason (:mod:`~assay.serving.rejections`);
   :mod:`~assay.serving.predictions` are its values.
5. :mod:`~assay.serving.reloading` exchanges what is live without losing a request.
6. :mod:`~assay.serving.prediction_log` writes down what was answered, and what became of it;
   :mod:`~assay.serving.feature_rate` says with which predictions their features.
7. :mod:`~assay.serving.shadowing` lets challengers predict beside the requests, those that
   :mod:`~assay.serving.challengers` loads; :mod:`~assay.serving.canary` chooses the entities that
   one of them answers for.
8. :mod:`~assay.serving.service` is the HTTP face: prediction routes in plain ASGI
   (:mod:`~assay.serving.inference`, :mod:`~assay.serving.wire`), the rest through FastAPI
   (:mod:`~assay.serving.control`). It is imported by name, because FastAPI takes time to load.
9. A request has an id and a deadline (:mod:`~assay.serving.reception`), comes over a connection
   that is bounded and answers in one write (:mod:`~assay.serving.connection`), and waits for no
   store on another machine (:mod:`~assay.serving.store_reads`).
10. :mod:`~assay.serving.open_inference` and :mod:`~assay.serving.tensors` speak the Open Inference
   Protocol, :mod:`~assay.serving.arrow` reads Arrow streams; :mod:`~assay.serving.neutral` answers
   while predictions are switched off.
11. :mod:`~assay.serving.grpc_server` is its face over gRPC (:mod:`~assay.serving.grpc_messages`,
    :mod:`~assay.serving.grpc_tensors`), imported where it is asked for;
    :mod:`~assay.serving.unix_socket` is for callers on the same machine, and
    :mod:`~assay.serving.async_predictor` for event loops in the same process.
12. :mod:`~assay.serving.traced_inference` makes a span of each request
    (:mod:`~assay.serving.tracing`), where somebody wants them.
13. :mod:`~assay.serving.supervisor` looks after several processes (:mod:`~assay.serving.worker`),
    which tell each other what they counted (:mod:`~assay.serving.worker_board`).
"""

from assay.serving.async_predictor import AsyncPredictor
from assay.serving.feature_source import FeatureSource, SourceRow, SourceState, states_of
from assay.serving.kill_switch import Kill, KillSwitch
from assay.serving.live_model import (
    CHAMPION,
    CanaryRoute,
    ChallengerSource,
    Deployed,
    LiveModel,
    LiveModels,
    LiveSource,
)
from assay.serving.onnx_model import OnnxModel, Runtime
from assay.serving.predictions import BatchPrediction, Limits, Prediction
from assay.serving.predictor import Predictor
from assay.serving.rejections import Kind, Rejected
from assay.serving.request_inputs import RequestInputs
from assay.serving.service_record import ServiceRecord

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
