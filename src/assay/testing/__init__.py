"""Conformance suites, Hypothesis strategies, fault wrappers and a fixed clock, for users as well.

1. :mod:`~assay.testing.clocks` - a clock that stands still until it is told to move.
2. :mod:`~assay.testing.versions` - small real model versions, with keys to sign them.
3. :mod:`~assay.testing.online_store` - the promises of an online store, as tests of any of them.
4. :mod:`~assay.testing.online_store_machine` - any of them against a dictionary.
5. :mod:`~assay.testing.redis_server` - a real redis-server of one's own.
6. :mod:`~assay.testing.offline_store` - the promises of an offline store, likewise;
   :mod:`~assay.testing.offline_answers` is the half that asks at moments,
   :mod:`~assay.testing.offline_rows` makes the rows.
7. :mod:`~assay.testing.order` - one generator and one oracle of which version of a fact wins.
8. :mod:`~assay.testing.objects` - the promises of objects that are written once, likewise.
9. :mod:`~assay.testing.look_ahead` - a fixture that fails where a feature knows the future.
10. :mod:`~assay.testing.ledger` - the promises of where a registry keeps its log and catalogue.
11. :mod:`~assay.testing.artifacts` - the promises of where the files of versions are kept.
12. :mod:`~assay.testing.postgres_server` - a real PostgreSQL server of one's own.
13. :mod:`~assay.testing.serving` - models and rows without a registry or a store behind them.
14. :mod:`~assay.testing.waiting` - until what another thread or process does is done.
15. :mod:`~assay.testing.certificates` - a certificate of this machine, to speak TLS with.
"""
