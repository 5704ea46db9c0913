"""Conformance suites, Hypothesis strategies, fault wrappers and a fixed clock, for users as well.

1. :mod:`~assay.testing.clocks` - a clock that stands still until it is told to move.
2. :mod:`~assay.testing.versions` - small real model versions, with keys to sign them.
"""
