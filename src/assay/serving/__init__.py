"""From a verified model to a number.

1. :mod:`~assay.serving.onnx_model` loads one ONNX model from bytes and answers rows of floats.
"""

from assay.serving.onnx_model import OnnxModel

__all__ = ["OnnxModel"]
