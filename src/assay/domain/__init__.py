"""Frozen values that every other package speaks in.

1. :mod:`~assay.domain.instants` - moments as int64 nanoseconds since the epoch, UTC.
2. :mod:`~assay.domain.clock` - where "now" comes from; always an argument.
3. :mod:`~assay.domain.order` - the one total order that decides which version of a fact wins.
4. :mod:`~assay.domain.facts` - what a source says, with both of its times.
5. :mod:`~assay.domain.canonical` - one canonical byte form, and the hash of it.
6. :mod:`~assay.domain.evidence` - a recorded measurement, and :mod:`~assay.domain.provenance`, what
   it was taken from.
7. :mod:`~assay.domain.verdicts` - PASS, FAIL, INDETERMINATE and the function that decides.
8. :mod:`~assay.domain.versions` - semantic versions, stages, kinds and input schemas of models.

Nothing here reads a clock, a file or an environment variable.
"""
