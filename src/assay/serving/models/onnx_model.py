"""One ONNX model in this process: bytes in, numbers out, nothing guessed."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.domain.versions import InputSchema
from assay.errors import ConfigurationError, ContractViolation, IncompatibleVersion
from assay.serving.models.native_trees import NativeTrees, faster_from, open_native

_REGRESSION = "regression"
_CLASSIFICATION = "classification"
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class Runtime:
    """How models are run.

    Attributes
    ----------
    threads: of ONNX Runtime, inside one prediction. With more than one, sums over trees may be
        taken in another order, and an answer's last bits may differ from those of one thread.
    cuda: run on a graphics card; refused where ONNX Runtime has no such provider, never replaced
        by the processor in silence.
    native_batches: let XGBoost itself predict large batches, where it is faster and its answers
        have the same bits.
    """

    threads: int = 1
    cuda: bool = False
    native_batches: bool = False

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigurationError(f"models on {self.threads} threads: expected at least 1")

    def session(self, onnx: bytes) -> Any:
        """A session of ONNX Runtime over a model's bytes.

        Raises
        ------
        ConfigurationError: a graphics card is asked for and there is none that it can use.
        IncompatibleVersion: it cannot load the model.
        """
        import onnxruntime  # a tenth of a second, and only serving needs it

        providers = ["CPUExecutionProvider"]
        if self.cuda:
            found = onnxruntime.get_available_providers()
            if _CUDA not in found:
                raise ConfigurationError(
                    f"models are to run on CUDA, and ONNX Runtime {onnxruntime.__version__} has "
                    f"{', '.join(found)}",
                    hint="install onnxruntime-gpu on a machine with a card, or do without",
                )
            providers.insert(0, _CUDA)
        try:
            session = onnxruntime.InferenceSession(
                onnx, sess_options=self.options(), providers=providers
            )
        except Exception as error:  # the runtime's errors share no base class of its own
            raise IncompatibleVersion(f"the model cannot be loaded: {error}") from error
        if self.cuda and _CUDA not in session.get_providers():
            # It falls back by itself where the card's libraries do not load.
            raise ConfigurationError(
                "models are to run on CUDA, and ONNX Runtime could not start it",
                hint="look at what onnxruntime-gpu needs of CUDA and cuDNN",
            )
        return session

    def options(self) -> Any:
        """The options of every session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # errors come back as exceptions
        return options


ONE_THREAD = Runtime()
_CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    """One row at a fixed place, which the runtime was told, and the number it answers with.

    ``run`` answers the row that is there; ``write`` rounds a row's numbers to float32 and puts them
    there. The runtime knows addresses only, so the arrays are kept alive here.
    """

    run: Callable[[], None]
    rows: npt.NDArray[np.float32]
    write: Callable[..., None]
    answer: npt.NDArray[Any]


class OnnxModel:
    """A loaded model: rows of float32 in the schema's column order, one number per row out.

    On one thread, which is how :class:`Runtime` runs it unless asked: the same bits for the same
    row on the same build, whatever stands beside it in the batch is up to the model's operators. A
    regressor answers with its value, a binary classifier with the probability of its second class;
    ``gives_probability`` says which it is: a model with an output called ``probabilities``, or one
    whose properties say ``answer: probability``.

    NaN is refused unless the model was made for missing values (``allow_missing``); infinities
    always are. An answer that is not a finite number is refused too: it must not reach an order.
    """

    def __init__(self, session: Any, schema: InputSchema, *, allow_missing: bool) -> None:
        self.schema = schema
        self.allow_missing = allow_missing
        self._session = session
        self._input = _check_input(session, schema)
        output, self.task = _choose_output(session)
        self.gives_probability = self.task == _CLASSIFICATION
        self._outputs = [output]
        self._range = (0.0, 1.0) if self.gives_probability else (-_LARGEST, _LARGEST)
        self._bound = threading.local()
        self._native: NativeTrees | None = None
        self.native_from: int | None = None

    @classmethod
    def from_bytes(
        cls,
        onnx: bytes,
        schema: InputSchema,
        *,
        allow_missing: bool = False,
        runtime: Runtime = ONE_THREAD,
    ) -> OnnxModel:
        """Load a model from memory.

        Raises
        ------
        IncompatibleVersion: the runtime cannot load it, or its input or output is not as declared.
        ConfigurationError: the runtime is not as asked for.
        """
        return cls(runtime.session(onnx), schema, allow_missing=allow_missing)

    def use_native(
        self,
        onnx: bytes,
        files: Mapping[str, bytes],
        rows: npt.NDArray[np.float32],
        ticks: Callable[[], int],
        runtime: Runtime = ONE_THREAD,
    ) -> int | None:
        """Let the version's native trees predict large batches, from ``native_from`` rows on.

        They do where there are any, they give equal bits on every one of ``rows``, and they were
        faster just now; otherwise nothing changes. Returns ``native_from``, None where they do not.

        Parameters
        ----------
        files: of the version, verified. rows: its golden rows. ticks: a monotonic stopwatch.
        """
        native = open_native(onnx, files, runtime.options())
        if native is None:
            return None
        (served,) = self._session.run(self._outputs, {self._input: rows})
        answered = native.run(rows)
        if answered.dtype != served.dtype or answered.tobytes() != served.tobytes():
            return None
        size = faster_from(
            lambda batch: self._session.run(self._outputs, {self._input: batch}),
            native.run,
            rows,
            ticks,
        )
        self._native, self.native_from = (None if size is None else native), size
        return size

    def predict(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """One number per row.

        Parameters
        ----------
        rows: float32, shape (n, k), columns in the schema's order.

        Returns
        -------
        float64, shape (n,): values, or probabilities of a rise in [0, 1].

        Raises
        ------
        ContractViolation: wrong type, shape, or a value that is not allowed; names the first one.
        IncompatibleVersion: the model's answer has another shape or is not finite.
        """
        self._check_rows(rows)
        if len(rows) == 0:
            return np.empty(0, dtype=np.float64)
        return self.predict_checked(np.ascontiguousarray(rows))

    def predict_checked(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """:meth:`predict` for a caller that has checked the rows itself: at least one, contiguous,
        float32, of the schema's width, without a value that is not allowed.

        Raises
        ------
        IncompatibleVersion: the model's answer has another shape or is not finite.
        """
        if self._native is not None and len(rows) >= (self.native_from or 0):
            return self._read(self._native.run(rows), len(rows))
        (answer,) = self._session.run(self._outputs, {self._input: rows})
        return self._read(answer, len(rows))

    def predict_one(self, row: Sequence[float]) -> float:
        """:meth:`predict_checked` for one row of float64, rounded to float32: the same bits in less
        time, through buffers of this thread's own that the runtime reads and writes in place.

        Raises
        ------
        IncompatibleVersion: the model's answer is not finite, or no probability.
        """
        bound: _Bound | None = getattr(self._bound, "one", None)
        if bound is None:
            bound = self._bound.one = self._bind()
        bound.write(*row)
        bound.run()
        value: float = bound.answer.item(0)
        low, high = self._range
        if not low <= value <= high:
            raise self._unusable(value, 0)
        return value

    def warm_up(self, rows: int) -> None:
        """Predict ``rows`` rows of zeros, alone and together, so that the first request finds the
        runtime's buffers made. What is answered to them does not matter.
        """
        zeros = np.zeros((rows, len(self.schema.names)), dtype=np.float32)
        try:
            self.predict_checked(zeros)
            for _ in range(rows):
                self.predict_one(zeros[0].tolist())
        except IncompatibleVersion:
            return  # zeros are no row of the model's world; golden rows judge it

    def _bind(self) -> _Bound:
        rows = np.zeros((1, len(self.schema.names)), dtype=np.float32)
        (answer,) = self._session.run(self._outputs, {self._input: rows})
        binding = self._session.io_binding()
        for bind, name, array in (
            (binding.bind_input, self._input, rows),
            (binding.bind_output, self._outputs[0], answer),
        ):
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        # A third of the time that numpy takes to read a list.
        write = partial(struct.Struct(f"{rows.size}f").pack_into, rows.data, 0)
        return _Bound(_runner(self._session, binding), rows, write, self._column(answer, 1))

    def _check_rows(self, rows: object) -> None:
        if not isinstance(rows, np.ndarray) or rows.dtype != np.float32:
            found = rows.dtype if isinstance(rows, np.ndarray) else type(rows).__name__
            raise ContractViolation(
                f"rows are {found}: expected a float32 array",
                hint="round to float32 where the model was trained so, not here",
            )
        if rows.ndim != 2 or rows.shape[1] != len(self.schema.names):
            raise ContractViolation(
                f"rows have shape {rows.shape}: expected (n, {len(self.schema.names)}), "
                f"columns {', '.join(self.schema.names[:4])}, ..."
            )
        bad = np.isinf(rows) if self.allow_missing else ~np.isfinite(rows)
        if bad.any():
            row, column = (int(index) for index in np.argwhere(bad)[0])
            raise ContractViolation(
                f"row {row}, column {self.schema.names[column]} is {rows[row, column]}: expected "
                + ("a number or NaN" if self.allow_missing else "a finite number")
            )

    def _column(self, answer: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
        """The part of an answer that is asked for: one number per row."""
        if self.task == _CLASSIFICATION and answer.shape == (n, 2):
            return answer[:, 1]
        if answer.shape in {(n, 1), (n,)}:
            return answer.reshape(n)
        raise IncompatibleVersion(f"the model answered shape {answer.shape} to {n} rows")

    def _read(self, answer: npt.NDArray[Any], n: int) -> npt.NDArray[np.float64]:
        result = self._column(answer, n).astype(np.float64)
        low, high = self._range
        # A NaN makes both extremes NaN, and no comparison with one holds.
        if not low <= result.min() <= result.max() <= high:
            row = int(np.argmin((result >= low) & (result <= high)))
            raise self._unusable(float(result[row]), row)
        return result

    def _unusable(self, value: float, row: int) -> IncompatibleVersion:
        return IncompatibleVersion(
            f"the model answered {value} to row {row}: expected "
            + ("a probability" if self.task == _CLASSIFICATION else "a finite number")
        )


def _runner(session: Any, binding: Any) -> Callable[[], None]:
    """Runs a session over its binding. The runtime's own method asks each time about features of
    graphics cards, which takes as long as a small model.
    """
    inner, bound = getattr(session, "_sess", None), getattr(binding, "_iobinding", None)
    if inner is None or bound is None:  # another release of the runtime
        return partial(session.run_with_iobinding, binding)
    return partial(inner.run_with_iobinding, bound, None)


def _check_input(session: Any, schema: InputSchema) -> str:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or schema.dtype != "float32":
        found = [(item.name, item.type) for item in inputs]
        raise IncompatibleVersion(f"the model reads {found}: expected one float32 input")
    shape = inputs[0].shape
    width = len(schema.names)
    # Free dimensions come as None or as their names.
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != width):
        raise IncompatibleVersion(f"the model reads shape {shape}: the schema has {width} columns")
    if isinstance(shape[0], int):
        raise IncompatibleVersion(
            f"the model reads exactly {shape[0]} rows: expected any number of them",
            hint="export it with a free first dimension",
        )
    return str(inputs[0].name)


def _choose_output(session: Any) -> tuple[str, str]:
    outputs = {item.name: item for item in session.get_outputs()}
    probabilities = outputs.get("probabilities")
    if probabilities is not None:
        if probabilities.type != "tensor(float)":
            raise IncompatibleVersion(
                f"the model's probabilities are {probabilities.type}: expected tensor(float)",
                hint="export it without ZipMap",
            )
        return probabilities.name, _CLASSIFICATION
    if len(outputs) != 1:
        raise IncompatibleVersion(
            f"the model has outputs {sorted(outputs)}: expected one, or 'probabilities'"
        )
    (output,) = outputs.values()
    answer = session.get_modelmeta().custom_metadata_map.get("answer")
    task = _CLASSIFICATION if answer == "probability" else _REGRESSION
    if output.type not in {"tensor(float)", "tensor(double)"}:
        raise IncompatibleVersion(f"the model answers {output.type}: expected floats")
    return output.name, task
