"""BentoML's side of :mod:`benchmarks.serving_peers`; run by a Python that has BentoML."""

import os

import bentoml
import numpy as np
import xgboost


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Single:
    """One row of features in, one number out, with the booster as it was saved."""

    def __init__(self):
        self.booster = xgboost.Booster(model_file=os.environ["ASSAY_BENCH_MODEL"])
        self.booster.set_param({"nthread": 1})

    @bentoml.api
    def predict(self, features: list[float]) -> float:
        row = np.array([features], dtype=np.float32)
        return float(self.booster.inplace_predict(row)[0])
