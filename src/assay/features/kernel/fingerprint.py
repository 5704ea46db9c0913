"""The build fingerprint: what computed the values, as opposed to what they mean.

A manifest says what a value means and never changes with the machine. The fingerprint names the
build: kernel source, compiler, libraries, time-zone data, processor. Its ``golden`` is the SHA-256
of the output bits of a fixed program over fixed inputs, so two builds with equal goldens compute
the same bits, and an upgrade that leaves it alone invalidates nothing.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import polars as pl

from assay.domain.canonical import content_hash
from assay.features.definition.expressions import col, where
from assay.features.definition.views import FeatureView, Sessions
from assay.features.definition.windows import Duration, TimeWindow
from assay.features.kernel.engine import source_hash
from assay.features.kernel.frames import TIMES, Rows
from assay.features.kernel.layout import Machine
from assay.features.kernel.sections import Sections, run_shares, shares

_ENTITIES, _ROWS = 5, 400


@dataclass(frozen=True, slots=True)
class BuildFingerprint:
    """One build of the kernel on one machine."""

    kernel_source: str
    golden: str
    python: str
    numba: str
    llvmlite: str
    numpy: str
    c_library: str
    timezone_data: str
    machine: str
    processor: str
    processor_features: str

    @classmethod
    def capture(cls) -> BuildFingerprint:
        """The fingerprint of the running process; runs the golden program."""
        return cls(
            kernel_source=source_hash(),
            golden=golden_hash(),
            python=platform.python_version(),
            numba=str(numba.__version__),
            llvmlite=str(llvmlite.__version__),
            numpy=np.__version__,
            c_library=" ".join(platform.libc_ver()).strip(),
            timezone_data=_timezone_data(),
            machine=platform.machine(),
            processor=str(llvmlite.binding.get_host_cpu_name()),
            processor_features=str(llvmlite.binding.get_host_cpu_features().flatten()),
        )

    @property
    def hash(self) -> str:
        """SHA-256 over all fields."""
        return content_hash(self.to_json())

    def same_bits_as(self, other: BuildFingerprint) -> bool:
        """Whether both builds computed the golden program alike."""
        return self.golden == other.golden

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def golden_view() -> FeatureView:
    """The fixed view behind ``golden``: every instruction that computes occurs in it."""
    x, y, member = col("x"), col("y"), col("member")
    change = x.simple_return(1)
    window = TimeWindow(35, 40)
    gaps = where(y > 1.0, y, col("z"))
    features = {
        "level": x,
        "log_return": x.log_return(3),
        "arithmetic": (x * y - 2.0) / (y + 0.5) + (-x).abs() * y.sign(),
        "logic": ((x < y) | ~(x <= 1.0)) & (x.sign().eq(1.0)) & x.is_valid(),
        "clipped": change.clip(-0.01, 0.02),
        "root": gaps.sqrt().fill_missing(-1.0),
        "sum": change.rolling_sum(7),
        "mean": x.rolling_mean(20),
        "deviation": (x * 15_000.0).rolling_std(20),
        "variance_gaps": gaps.rolling_var(30, min_count=5),
        "out_of_range": (x * 1e9).rolling_std(9),
        "constant": x.sign().rolling_std(12),
        "z": change.zscore(50),
        "low": x.rolling_min(21),
        "high_gaps": gaps.rolling_max(33, min_count=2),
        "fast": (change * change).ewm_mean(alpha=0.06, horizon=120).sqrt(),
        "slow_gaps": gaps.ewm_mean(span=30, horizon=90, min_count=3),
        "weighted_deviation": x.ewm_std(halflife=10, horizon=70),
        "powers": x.exp() + (y + 3.0) ** 2.5,
        "time_mean": x.rolling_mean(TimeWindow(25, 30)),
        "time_deviation": gaps.rolling_std(TimeWindow(40, 40), min_count=2),
        "time_count": gaps.rolling_count(TimeWindow(11, 9)),
        "decayed": x.ewm_mean(halflife=Duration(7), horizon=TimeWindow(50, 60)),
        "decayed_deviation": x.ewm_std(halflife=Duration(9), horizon=TimeWindow(50, 60)),
        "median": change.rolling_median(31),
        "quantile_gaps": gaps.rolling_quantile(300, 0.9, min_count=5),
        "quantile_time": y.rolling_quantile(TimeWindow(19, 20), 0.25, interpolation="nearest"),
        "rank_in_window": y.rolling_rank(40, percent=True),
        "rank_in_time": y.rolling_rank(TimeWindow(19, 20)),
        "covariance": x.rolling_cov(y, 30),
        "correlation_gaps": change.rolling_corr(gaps, 60, min_count=4),
        "beta": change.rolling_beta(y, 25),
        "pair_in_time": x.rolling_cov(y, window) + x.rolling_corr(y, window),
        "beta_in_time": x.rolling_beta(y, window),
        "slope": x.rolling_slope(50) + gaps.rolling_slope(window, min_count=2),
        "shape": change.rolling_skew(60) + change.rolling_kurt(60),
        "shape_in_time": y.rolling_skew(window) + y.rolling_kurt(window),
        "last": gaps.last_valid(4) + (y > 1.1).rows_since(9) + (y > 1.1).time_since(9),
        "rank": change.cs_rank(),
        "relative": change.cs_demean() * member,
        "score": x.rolling_std(20).cs_zscore(),
        "other": change - y.of("E1", within=Duration(3)),
        "basket": x - x.of_basket({"E0": 1.0, "E3": 2.5}, within=Duration(2), own=False),
    }
    return FeatureView(
        "golden", "generated", "entity", features, Sessions(1), members="member", timezone="UTC"
    )


def golden_hash() -> str:
    """SHA-256 of the bits of the golden view over generated inputs."""
    view = golden_view()
    plan = view.plan
    assert plan.second is not None
    names = tuple(f"E{number}" for number in range(_ENTITIES))
    count = _ENTITIES * _ROWS
    inputs = np.empty((TIMES + len(view.columns), count))
    inputs[0].view(np.int64)[:] = np.arange(count)
    # Each entity comes less often than the one before it: some are named who have no row.
    times = np.concatenate([np.arange(_ROWS) * (entity + 1) for entity in range(_ENTITIES)])
    inputs[1].view(np.int64)[:] = times
    for index, name in enumerate(view.columns, start=TIMES):
        inputs[index] = _generated(index - 1, name, count)
    starts = np.arange(_ENTITIES + 1) * _ROWS
    first = Machine.build(plan.first, 64)
    middle = np.empty((len(plan.first.outputs), count))
    run_shares(first, shares(starts, 1, fresh=1), inputs, middle)
    rows = Rows(pl.DataFrame(), names, starts, times, inputs)
    outputs = Sections(view).of_history(rows, middle)
    bits = middle.astype("<f8").tobytes() + outputs.astype("<f8").tobytes()
    return hashlib.sha256(bits).hexdigest()


def _generated(seed: int, name: str, count: int) -> Any:
    """Numbers from a linear congruence in whole numbers: no library's generator is involved."""
    values, state = [], seed
    for _ in range(count):
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        values.append((state >> 11) * 2.0**-53)
    uniform = np.array(values)
    if name == "member":
        return (uniform > 0.2).astype(np.float64)
    if name == "z":
        return np.where(uniform < 0.3, np.nan, uniform * 4.0 - 1.0)
    return 1.0 + np.cumsum(uniform - 0.5) * 2.0**-8 + uniform * 0.25


def _timezone_data() -> str:
    try:
        return f"tzdata {metadata.version('tzdata')}"
    except metadata.PackageNotFoundError:
        return "of the operating system"
