"""Models in memory, and what of them is live.

1. :mod:`~assay.serving.models.onnx_model` loads one ONNX model from bytes and answers rows of
   floats; :mod:`~assay.serving.models.native_trees` answers large batches where a booster's own
   code is quicker and proven equal.
2. :mod:`~assay.serving.models.live_model`: immutable snapshots of what is live, and the side of the
   registry that serving sees; :mod:`~assay.serving.models.canary` chooses the entities that a
   canary answers for.
"""
