"""The proof that what is served is what history says, for any view and any days.

1. :func:`prove_view` compares a view's online store, or its events fed one by one, with history.
2. A :class:`Following` is what one run found over several views; ``advice`` says what to do.
3. :func:`write_following` writes it as JSON, Markdown and a page with plots.
4. :func:`prove_served` compares what models were given, by the prediction log, with history.
5. :func:`verify_desk` makes the latest training sets again from what was archived, and compares the
   environment they were made in with this one.
"""

from assay.orchestration.parity.following import Following, markdown_of
from assay.orchestration.parity.proving import (
    OnlineSide,
    ViewProof,
    history_as_known,
    open_store,
    prove_view,
)
from assay.orchestration.parity.served import ServedProof, prove_served
from assay.orchestration.parity.verification import (
    DeskVerification,
    RecipeVerification,
    verify_desk,
)
from assay.orchestration.parity.writing import Written, write_following

__all__ = [
    "DeskVerification",
    "Following",
    "OnlineSide",
    "RecipeVerification",
    "ServedProof",
    "ViewProof",
    "Written",
    "history_as_known",
    "markdown_of",
    "open_store",
    "prove_served",
    "prove_view",
    "verify_desk",
    "write_following",
]
