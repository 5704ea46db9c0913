"""What a feature is, with nothing about how it is computed.

1. :mod:`~assay.features.definition.expressions` - features as expressions over columns;
   :mod:`~assay.features.definition.operations` is what can be written after the dot,
   :mod:`~assay.features.definition.windows` how far back it looks,
   :mod:`~assay.features.definition.calendars` when markets are open,
   :mod:`~assay.features.definition.lateness` how late a fact may come,
   :mod:`~assay.features.definition.window_files` all that by name, from a file.
2. :mod:`~assay.features.definition.operators` - every operator with its promises, and how it
   becomes instructions.
3. :mod:`~assay.features.definition.views` - a named set of features over one source;
   :mod:`~assay.features.definition.requests` - features that need what a request brings.
4. :mod:`~assay.features.definition.opcodes`, :mod:`~assay.features.definition.program` - the
   instructions of the kernel, and lists of them; :mod:`~assay.features.definition.builder` writes
   them.
5. :mod:`~assay.features.definition.bars` - a source of bars, made from a source of ticks.
6. :mod:`~assay.features.definition.compiler` - from expressions to programs.
7. :mod:`~assay.features.definition.manifest` - the hash of all that;
   :mod:`~assay.features.definition.differences` - what changed between two of them;
   :mod:`~assay.features.definition.catalogue` publishes it,
   :mod:`~assay.features.definition.evolution` says how it may change.
8. :mod:`~assay.features.definition.graph`, :mod:`~assay.features.definition.drawing` - a view to
   look at.
"""

from assay.features.definition.bars import Aggregate, Bars
from assay.features.definition.calendars import (
    FX_SESSIONS,
    SessionRule,
    SessionTable,
    sessions_of_exchange,
    sessions_of_rule,
)
from assay.features.definition.catalogue import ManifestCatalogue, Publication
from assay.features.definition.evolution import Evolution, check_evolution
from assay.features.definition.expressions import (
    Expression,
    col,
    day_number,
    day_of_week,
    days_since_previous_row,
    half_day,
    in_session,
    lit,
    month_end,
    month_start,
    quarter_end,
    since_open,
    until_close,
    where,
)
from assay.features.definition.lateness import Lateness
from assay.features.definition.manifest import Manifest, ManifestSet
from assay.features.definition.operators import OPERATORS, NumericClass, Operator
from assay.features.definition.requests import RequestView
from assay.features.definition.step_functions import StepFunction, step_function
from assay.features.definition.views import FeatureView, Sessions
from assay.features.definition.window_files import WindowSet, load_windows
from assay.features.definition.windows import Duration, SessionWindow, TimeWindow

__all__ = [
    "FX_SESSIONS",
    "OPERATORS",
    "Aggregate",
    "Bars",
    "Duration",
    "Evolution",
    "Expression",
    "FeatureView",
    "Lateness",
    "Manifest",
    "ManifestCatalogue",
    "ManifestSet",
    "NumericClass",
    "Operator",
    "Publication",
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
    "day_number",
    "day_of_week",
    "days_since_previous_row",
    "half_day",
    "in_session",
    "lit",
    "load_windows",
    "month_end",
    "month_start",
    "quarter_end",
    "sessions_of_exchange",
    "sessions_of_rule",
    "since_open",
    "step_function",
    "until_close",
    "where",
]
