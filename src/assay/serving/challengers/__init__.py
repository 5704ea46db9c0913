"""Challengers predict beside the requests, off the caller's path.

1. :mod:`~assay.serving.challengers.running` loads them, and exchanges them without a request
   noticing.
2. :mod:`~assay.serving.challengers.shadowing` gives each the inputs that production answered.
3. :mod:`~assay.serving.challengers.pairs` are both answers to one input, kept in
   :mod:`~assay.serving.challengers.pair_log`.
4. What they add up to outlives them in :mod:`~assay.serving.challengers.summaries`.
"""
