"""Any fitted model that is known: which library it is of, and its ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.errors import ConfigurationError, ContractViolation
from assay.training.conversion.graph import INPUT, OUTPUT, tree_nodes, write_model
from assay.training.conversion.lightgbm_models import LightGBMModel, read_lightgbm
from assay.training.conversion.network_models import export_tensorflow, export_torch
from assay.training.conversion.sklearn_models import export_sklearn, read_sklearn
from assay.training.conversion.xgboost_models import XGBoostModel, read_xgboost
from assay.training.trees import Tree


class NativeModel(Protocol):
    """A fitted model as the parity check asks it."""

    @property
    def features(self) -> tuple[str, ...]: ...

    @property
    def library(self) -> str: ...

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]: ...

    def trees(self) -> tuple[Tree, ...]: ...

    def to_file(self) -> tuple[str, bytes] | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """A fitted model and its ONNX file, not yet compared.

    Attributes
    ----------
    native: the model, with its own predictions.
    onnx: input ``X`` float32, shape (rows, features); output ``prediction``, shape (rows, outputs).
    """

    native: NativeModel
    onnx: bytes


def convert(model: Any, features: Sequence[str]) -> Conversion:
    """Convert a fitted model to one self-contained ONNX file.

    Parameters
    ----------
    model: fitted: an XGBoost or LightGBM booster or its scikit-learn face, a scikit-learn estimator
        or pipeline, a PyTorch module, or a Keras model.
    features: names of its inputs, in order.

    Raises
    ------
    ContractViolation: of another library, or it cannot be converted exactly; says which part.
    ConfigurationError: the library that converts it is not installed.
    """
    names = tuple(features)
    packages = {one.__module__.split(".")[0] for one in type(model).__mro__}
    if "xgboost" in packages:
        return _of_trees(read_xgboost(model, names))
    if "lightgbm" in packages:
        return _of_trees(read_lightgbm(model, names))
    if "sklearn" in packages:
        if find_spec("skl2onnx") is None:
            raise ConfigurationError(
                "converting scikit-learn models needs skl2onnx, which is not installed",
                hint="pip install 'assay[sklearn]'",
            )
        native = read_sklearn(model, names)
        return Conversion(native, export_sklearn(native))
    if "torch" in packages:
        return Conversion(*export_torch(model, names))
    if packages & {"keras", "tensorflow"}:
        return Conversion(*export_tensorflow(model, names))
    raise ContractViolation(
        f"a model of type {type(model).__module__}.{type(model).__qualname__}: expected one of "
        "XGBoost, LightGBM, scikit-learn, PyTorch or TensorFlow",
        hint="export it to ONNX by its own means, and register model.onnx with its schema",
    )


def read_native(path_name: str, data: bytes) -> Any:
    """A native model from its file: XGBoost's ``.ubj`` or ``.json``, LightGBM's ``.txt``.

    Raises
    ------
    ContractViolation: another kind of file, or it cannot be read as what it says.
    ConfigurationError: the library that reads it is not installed.
    """
    suffix = path_name[path_name.rfind(".") :].lower() if "." in path_name else ""
    if suffix in {".ubj", ".json"}:
        import xgboost  # takes over a second to import

        booster = xgboost.Booster()
        try:
            booster.load_model(bytearray(data))
        except xgboost.core.XGBoostError as error:
            raise ContractViolation(f"{path_name} is no XGBoost model: {_first(error)}") from error
        return booster
    if suffix == ".txt":
        lightgbm = import_lightgbm()
        try:
            return lightgbm.Booster(model_str=data.decode())
        except (UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
            raise ContractViolation(f"{path_name} is no LightGBM model: {_first(error)}") from error
    raise ContractViolation(
        f"{path_name}: expected a native model, XGBoost's .ubj or .json or LightGBM's .txt",
        hint="scikit-learn has no safe file of its own: register it from Python",
    )


def import_lightgbm() -> Any:
    """The package.

    Raises
    ------
    ConfigurationError: it is not installed.
    """
    try:
        import lightgbm  # an optional package
    except ImportError:
        raise ConfigurationError(
            "LightGBM is not installed", hint="pip install 'assay[lightgbm]'"
        ) from None
    return lightgbm


def _of_trees(native: XGBoostModel | LightGBMModel) -> Conversion:
    model = native.model
    nodes, constants = tree_nodes(model, INPUT, OUTPUT)
    onnx = write_model(
        nodes,
        constants,
        native.features,
        name=native.library,
        outputs=model.outputs,
        number=model.number,
        probability=model.outputs == 1 and model.link.name == "sigmoid",
    )
    return Conversion(native, onnx)


def _first(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]
