"""The service over HTTP.

1. :mod:`~assay.serving.http.service` puts it together. It is imported by name, because FastAPI
   takes time to load.
2. :mod:`~assay.serving.http.inference` has the prediction routes in plain ASGI,
   :mod:`~assay.serving.http.open_inference` those of the Open Inference Protocol;
   :mod:`~assay.serving.http.traced_inference` makes a span of each, where somebody wants them.
3. :mod:`~assay.serving.http.control` has the rest through FastAPI, with
   :mod:`~assay.serving.http.open_routes`, :mod:`~assay.serving.http.openapi` for all documents and
   :mod:`~assay.serving.http.patient_look` for dependencies that do not answer. Who may change
   something there is asked of :mod:`~assay.serving.http.operators`.
4. :mod:`~assay.serving.http.connection` is one client's: bounded, and answered in one write.
"""
