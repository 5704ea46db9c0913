"""The registry over HTTP: ``/api/v1``.

1. :mod:`~assay.registry_api.gate` stands before everything: it numbers requests, bounds bodies and
   recognises who shows a token.
2. :mod:`~assay.registry_api.kept` keeps one registry open; :mod:`~assay.registry_api.reads` answers
   questions, with pages, filters and entity tags, :mod:`~assay.registry_api.comparisons` those that
   need more of the desk, and :mod:`~assay.registry_api.reports` gives its pages. The form of every
   answer is in :mod:`~assay.registry_api.documents`.
3. :mod:`~assay.registry_api.changes` registers, approves, promotes and withdraws. What a person
   vouches for arrives signed by their own key: the server never holds one. What is uploaded comes
   as an archive (:mod:`~assay.registry_api.uploads`).
4. :mod:`~assay.registry_api.once` gives a request that is sent again the answer that it had.
5. :mod:`~assay.registry_api.problems` says what went wrong, in one form.
6. :func:`make_app` puts them together.
"""

from assay.registry_api.app import make_app

__all__ = ["make_app"]
