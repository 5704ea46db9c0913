"""Features: one definition, one kernel, two drivers.

1. :mod:`~assay.features.definition` - a view is declared once, as expressions; its manifest is
   their hash.
2. :mod:`~assay.features.kernel` - one compiled function runs the steps of every operator.
3. :mod:`~assay.features.offline` drives it over history, :mod:`~assay.features.online` event by
   event.
4. :mod:`~assay.features.parity` compares what both computed, bit by bit.

Writing a definition needs only the first; the drivers (and with them the compiler) are imported
when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay.features.definition import (
    FX_SESSIONS,
    OPERATORS,
    Aggregate,
    Bars,
    Duration,
    Evolution,
    Expression,
    FeatureView,
    Lateness,
    Manifest,
    ManifestCatalogue,
    ManifestSet,
    NumericClass,
    Operator,
    Publication,
    RequestView,
    SessionRule,
    Sessions,
    SessionTable,
    SessionWindow,
    StepFunction,
    TimeWindow,
    WindowSet,
    check_evolution,
    col,
    day_number,
    day_of_week,
    days_since_previous_row,
    half_day,
    in_session,
    lit,
    load_windows,
    month_end,
    month_start,
    quarter_end,
    sessions_of_exchange,
    sessions_of_rule,
    since_open,
    step_function,
    until_close,
    where,
)

if TYPE_CHECKING:
    from assay.features.kernel.fingerprint import BuildFingerprint
    from assay.features.kernel.requests import RequestFeatures
    from assay.features.kernel.warming import warm_kernel
    from assay.features.offline.cache import CacheStatistics, DiskFeatureCache
    from assay.features.offline.driver import OfflineDriver
    from assay.features.online.driver import FeatureRow, OnlineDriver
    from assay.features.parity.comparison import ParityReport, compare
    from assay.features.parity.look_ahead import (
        LookAheadReport,
        detect_look_ahead,
        measure_look_back,
    )

_LATER = {
    "BuildFingerprint": "assay.features.kernel.fingerprint",
    "CacheStatistics": "assay.features.offline.cache",
    "DiskFeatureCache": "assay.features.offline.cache",
    "FeatureRow": "assay.features.online.driver",
    "LookAheadReport": "assay.features.parity.look_ahead",
    "OfflineDriver": "assay.features.offline.driver",
    "OnlineDriver": "assay.features.online.driver",
    "RequestFeatures": "assay.features.kernel.requests",
    "ParityReport": "assay.features.parity.comparison",
    "compare": "assay.features.parity.comparison",
    "detect_look_ahead": "assay.features.parity.look_ahead",
    "measure_look_back": "assay.features.parity.look_ahead",
    "warm_kernel": "assay.features.kernel.warming",
}

__all__ = [
    "FX_SESSIONS",
    "OPERATORS",
    "Aggregate",
    "Bars",
    "BuildFingerprint",
    "CacheStatistics",
    "DiskFeatureCache",
    "Duration",
    "Evolution",
    "Expression",
    "FeatureRow",
    "FeatureView",
    "Lateness",
    "LookAheadReport",
    "Manifest",
    "ManifestCatalogue",
    "ManifestSet",
    "NumericClass",
    "OfflineDriver",
    "OnlineDriver",
    "Operator",
    "ParityReport",
    "Publication",
    "RequestFeatures",
    "RequestView",
    "SessionRule",
    "SessionTable",
    "SessionWindow",
    "Sessions",
    "StepFunction",
    "TimeWindow",
    "WindowSet",
    "check_evolution",
    "col",
    "compare",
    "day_number",
    "day_of_week",
    "days_since_previous_row",
    "detect_look_ahead",
    "half_day",
    "in_session",
    "lit",
    "load_windows",
    "measure_look_back",
    "month_end",
    "month_start",
    "quarter_end",
    "sessions_of_exchange",
    "sessions_of_rule",
    "since_open",
    "step_function",
    "until_close",
    "warm_kernel",
    "where",
]


def __getattr__(name: str) -> Any:
    # Importing the compiler costs a third of a second: definitions and manifests do without it.
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
