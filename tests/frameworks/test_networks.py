"""Networks of PyTorch and TensorFlow: exported, compared, and without notes of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from assay.domain.versions import InputSchema
from assay.errors import ContractViolation
from assay.serving import OnnxModel
from assay.training.conversion import convert
from assay.training.onnx_checks import check_parity, run_onnx_outputs

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NAMES = ("a", "b", "c", "d", "e")
ROWS = np.random.default_rng(0).standard_normal((5_000, len(NAMES))).astype(np.float32)


def torch_models() -> list[Any]:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn

    class Flat(nn.Module):  # type: ignore[name-defined,misc]
        """Answers one number per row, without a second dimension."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(len(NAMES), 1)

        def forward(self, rows: Any) -> Any:
            return self.layer(rows).squeeze(1)

    return [
        nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1)),
        nn.Sequential(
            nn.Linear(5, 16),
            nn.LayerNorm(16),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(16, 1),
            nn.Sigmoid(),
        ),
        nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3), nn.Softmax(dim=1)),
        Flat(),
    ]


def keras_models() -> list[Any]:
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return [
        keras.Sequential([layers.Input((5,)), layers.Dense(16, "relu"), layers.Dense(1)]),
        keras.Sequential(
            [
                layers.Input((5,)),
                layers.BatchNormalization(),
                layers.Dense(16, "tanh"),
                layers.Dropout(0.5),
                layers.Dense(1, "sigmoid"),
            ]
        ),
        keras.Sequential([layers.Input((5,)), layers.Dense(3, "softmax")]),
    ]


@pytest.mark.parametrize("make", [torch_models, keras_models])
def test_a_network_agrees_with_its_file(make: Any) -> None:
    for model in make():
        made = convert(model, NAMES)
        parity = check_parity(made.native, made.onnx, ROWS)
        assert parity["largest_difference"] <= 2e-6
        assert parity["edge_rows"] >= 3 * (len(NAMES) + 1)
        alone = np.concatenate([run_onnx_outputs(made.onnx, ROWS[i : i + 1]) for i in range(50)])
        assert np.abs(alone - run_onnx_outputs(made.onnx, ROWS[:50])).max() <= 1e-6


@pytest.mark.parametrize("make", [torch_models, keras_models])
def test_a_network_is_served_like_any_model(make: Any) -> None:
    model = make()[1]
    made = convert(model, NAMES)
    served = OnnxModel.from_bytes(made.onnx, InputSchema.of(NAMES))
    assert np.abs(served.predict(ROWS) - made.native.predict(ROWS)[:, 0]).max() <= 2e-6
    assert served.predict_one(ROWS[0].tolist()) == pytest.approx(served.predict(ROWS[:1])[0])


@pytest.mark.parametrize("make", [torch_models, keras_models])
def test_a_file_says_nothing_of_the_machine_and_is_the_same_twice(make: Any) -> None:
    model = make()[0]
    data = convert(model, NAMES).onnx
    assert data == convert(model, NAMES).onnx
    for place in (Path(__file__), Path(onnx.__file__), Path.cwd()):
        assert str(place.parent).encode() not in data
    assert [one.name for one in onnx.load_from_string(data).graph.input] == ["X"]


@pytest.mark.parametrize("make", [torch_models, keras_models])
def test_a_network_of_another_width_is_refused(make: Any) -> None:
    with pytest.raises(ContractViolation, match="does not read 3 inputs"):
        convert(make()[0], NAMES[:3])


def test_an_operator_that_onnx_does_not_have_is_refused_in_words() -> None:
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    model = keras.Sequential([layers.Input((5,)), layers.Dense(4, "gelu"), layers.Dense(1)])
    with pytest.raises(ContractViolation, match="no ONNX: No Op registered for Erfc"):
        convert(model, NAMES)
