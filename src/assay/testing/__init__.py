"""Conformance suites, Hypothesis strategies, fault wrappers and a fixed clock, for users as well.

1. :mod:`~assay.testing.clocks` - a clock that stands still until it is told to move.
2. :mod:`~assay.testing.versions` - small real model versions, with keys to sign them.
3. :mod:`~assay.testing.online_store` - the promises of an online store, as tests of any of them.
4. :mod:`~assay.testing.objects` - the promises of objects that are written once, likewise.
"""
