"""What the gates say about models that know nothing."""

from __future__ import annotations

from assay.domain.verdicts import Verdict
from assay.orchestration.evidence.noise import NoiseControl
from assay.orchestration.report import words
from assay.orchestration.report.document import texts
from assay.orchestration.report.html import Markup, element, join


def noise_table(control: NoiseControl) -> Markup:
    """What every gate said about models that know nothing."""
    rows = [
        (words.gate_title(name), *(words.count(counts[str(one)]) for one in Verdict))
        for name, counts in control.by_gate.items()
    ]
    return join(
        element(
            "p",
            element("strong", f"{control.passed} of {control.models}"),
            " made-up forecasts without skill, as persistent as this version's own, pass every "
            "statistical gate that blocks.",
        ),
        texts(("Gate", "Pass", "Fail", "Undecided"), rows),
    )
