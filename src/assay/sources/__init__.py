"""Where facts come from: a small port, and one package per source behind it.

1. :class:`~assay.sources.port.Source` - the port: a name, a rank and an iterator of observations.
   A user adds a source of their own in one file that has these three.
2. :mod:`~assay.sources.ecb` - the European Central Bank's daily reference rates since 1999.

A source knows two things that nobody else can: when its facts happened and when they could first
have been known. It keeps what it read as raw text. It neither cleans nor drops anything: a cell
that makes no sense travels on and is quarantined, with its reason, by the lake.
"""

from assay.sources.port import UNREADABLE_TIME, Source

__all__ = ["UNREADABLE_TIME", "Source"]
