"""From evidence to production and back.

1. :mod:`~assay.delivery.policy`: the desk's gates, rules over evidence by kind of model;
   :mod:`~assay.delivery.policy_files` reads them.
2. :mod:`~assay.delivery.gates` judges evidence: PASS, FAIL or INDETERMINATE per gate, one outcome.
3. :mod:`~assay.delivery.report` says it in words that people who approve can read.
4. :mod:`~assay.delivery.approvals`: two people other than the author say yes to one exact version.
5. :mod:`~assay.delivery.activation` loads and exercises a version before it may go live.
6. :mod:`~assay.delivery.promotion` is the one way into production, and
   :mod:`~assay.delivery.rollback` the one way back.
7. :mod:`~assay.delivery.guard` judges what a live version answers, and withdraws a wrong one.
"""

from assay.delivery.gates import Champion, GateReport, SwitchedOff, evaluate
from assay.delivery.policy import Gate, Policy, Rule
from assay.delivery.policy_files import (
    desk_policy_text,
    load_policy,
    parse_policy,
    read_policy,
)
from assay.delivery.report import explain, render

__all__ = [
    "Champion",
    "Gate",
    "GateReport",
    "Policy",
    "Rule",
    "SwitchedOff",
    "desk_policy_text",
    "evaluate",
    "explain",
    "load_policy",
    "parse_policy",
    "read_policy",
    "render",
]
