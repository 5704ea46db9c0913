"""Objects that are written once, on any file system that fsspec knows: S3, GCS, memory and others.

1. :mod:`~assay.adapters.objects.store` - the port over one of fsspec's file systems, and its errors
   in Assay's words.

Credentials and endpoints come from where the vendor's own client looks for them, never from a
desk's files.
"""

from assay.adapters.objects.store import FsspecObjects

__all__ = ["FsspecObjects"]
