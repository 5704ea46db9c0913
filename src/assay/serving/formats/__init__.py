"""Requests and answers as bytes.

1. :mod:`~assay.serving.formats.wire` is the JSON of the service's own routes.
2. :mod:`~assay.serving.formats.tensors` are the Open Inference Protocol's, as JSON and binary.
3. :mod:`~assay.serving.formats.arrow` reads Arrow streams.
"""
