"""The European Central Bank's euro foreign exchange reference rates.

1. :class:`~assay.sources.ecb.reference_rates.EcbReferenceRates` reads the archive
   ``eurofxref-hist.zip``: one row a day, one column a currency, units of the currency per euro.
2. Each rate becomes one observation about ``EUR_<currency>``, with the raw text of date and rate.
3. It is dated 14:10 Frankfurt time, when the rates are set, and known from 16:00, when they are
   published.
"""

from assay.sources.ecb.reference_rates import EcbReferenceRates, fixing_time, publication_time

__all__ = ["EcbReferenceRates", "fixing_time", "publication_time"]
