"""A request before it is a prediction, whatever it came over.

1. :mod:`~assay.serving.requests.reception` gives it an id and a deadline.
2. :mod:`~assay.serving.requests.store_reads` lets no request wait in the event loop for a store on
   another machine.
3. :mod:`~assay.serving.requests.asgi` reads bodies and sends answers;
   :mod:`~assay.serving.requests.refusals` has those that are refused before they are read.
"""
