"""How bytes reach the disk: one policy for files, locks and SQLite, used by every store.

1. :mod:`~assay.storage.files` - write a file whole or not at all, append a line durably.
2. :mod:`~assay.storage.locks` - one writer at a time across processes.
3. :mod:`~assay.storage.sqlite` - how every SQLite file of the project is opened and written.
4. :mod:`~assay.storage.objects` - objects that are written once, under their names.
5. :mod:`~assay.storage.seals` - log lines that know when one of their bytes has changed.
5. :mod:`~assay.storage.documents` - YAML files that people write, read strictly.
"""
