"""What a service tells of itself, and writes down of its work.

1. :mod:`~assay.serving.telemetry.metrics` are counted in each process;
   :mod:`~assay.serving.telemetry.worker_board` is where processes read each other's;
   :mod:`~assay.serving.telemetry.latency_target` compares them with what was promised.
2. :mod:`~assay.serving.telemetry.prediction_log` holds what was answered, and what became of it.
3. :mod:`~assay.serving.telemetry.json_logs` and :mod:`~assay.serving.telemetry.tracing` are for
   the collectors of a desk; :mod:`~assay.serving.telemetry.beside` says what runs beside
   production.
"""
