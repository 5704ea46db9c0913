"""What a feature is, with nothing about how it is computed.

1. :mod:`~assay.features.definition.expressions` - features as expressions over columns;
   :mod:`~assay.features.definition.operations` is what can be written after the dot,
   :mod:`~assay.features.definition.windows` how far back it looks.
2. :mod:`~assay.features.definition.operators` - every operator with its promises, and how it
   becomes instructions.
3. :mod:`~assay.features.definition.views` - a named set of features over one source.
4. :mod:`~assay.features.definition.opcodes`, :mod:`~assay.features.definition.program` - the
   instructions of the kernel, and lists of them; :mod:`~assay.features.definition.builder` writes
   them.
5. :mod:`~assay.features.definition.compiler` - from expressions to programs.
6. :mod:`~assay.features.definition.manifest` - the hash of all that.
"""

from assay.features.definition.expressions import (
    Expression,
    col,
    day_number,
    day_of_week,
    days_since_previous_row,
    lit,
    month_end,
    month_start,
    quarter_end,
    where,
)
from assay.features.definition.manifest import Manifest, ManifestSet
from assay.features.definition.operators import OPERATORS, NumericClass, Operator
from assay.features.definition.step_functions import StepFunction, step_function
from assay.features.definition.views import FeatureView, Sessions
from assay.features.definition.windows import Duration, SessionWindow, TimeWindow

__all__ = [
    "OPERATORS",
    "Duration",
    "Expression",
    "FeatureView",
    "Manifest",
    "ManifestSet",
    "NumericClass",
    "Operator",
    "SessionWindow",
    "Sessions",
    "StepFunction",
    "TimeWindow",
    "col",
    "day_number",
    "day_of_week",
    "days_since_previous_row",
    "lit",
    "month_end",
    "month_start",
    "quarter_end",
    "step_function",
    "where",
]
