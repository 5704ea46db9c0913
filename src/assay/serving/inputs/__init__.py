"""What a model is asked with: features of a store, of a request, or given.

1. :mod:`~assay.serving.inputs.feature_source`: where an instrument's features come from;
   :mod:`~assay.serving.inputs.request_inputs`: what a request adds to them.
2. :mod:`~assay.serving.inputs.wiring`: a model's way to both;
   :mod:`~assay.serving.inputs.read_rows` keeps what a row that was read is to a model.
3. :mod:`~assay.serving.inputs.rows` reads the rows that callers bring.
4. :mod:`~assay.serving.inputs.feature_rate` says with which predictions features are logged.
"""
