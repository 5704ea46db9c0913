"""The page of operators, made from the operators themselves."""

from __future__ import annotations

import inspect

from assay.features.definition.expressions import Expression
from assay.features.definition.operators import OPERATORS, Operator

_HEAD = """# Operators

Made by `assay features operators --markdown`; a test holds it to the code.

An operator's result depends on the rows of its window and on nothing else, and has the same bits
over history and event by event. Its class says what it is beside the number that it stands for:
*exact* is that number or a whole one, *bitwise* is rounded, *tolerance* has the error that its note
bounds. A value that is not finite is missing (NaN). u is the unit of the first operand.
"""


def reference_page() -> str:
    """Every operator with its promises, as Markdown."""
    return "\n".join([_HEAD, *map(_entry, OPERATORS.values())])


def _entry(operator: Operator) -> str:
    title = f"## {operator.name}\n"
    written = getattr(Expression, operator.name, None)
    if inspect.isfunction(written):
        parameters = list(inspect.signature(written).parameters.values())[1:]
        shown = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
        title += f"\n`x.{operator.name}{inspect.Signature(shown)}`: "
        title += f"{(inspect.getdoc(written) or '').splitlines()[0]}\n"
    facts = [
        ("class", operator.numeric),
        ("formula", operator.formula),
        ("missing", operator.missing),
        ("unit", operator.unit),
        ("earlier rows", operator.reach),
        ("state in words", operator.state),
        ("note", operator.note),
        ("source", operator.source),
    ]
    lines = [f"- {name}: {says}" for name, says in facts if says and says != "0"]
    return "\n".join([title, *lines, ""])
