"""Redis: the online store that many processes and machines share.

1. :mod:`~assay.adapters.redis.address` - where the server is; passwords stay out of every text.
2. :mod:`~assay.adapters.redis.keys` - one hash tag for each view; places in the order as bytes.
3. :mod:`~assay.adapters.redis.scripts` - the Lua that decides inside the server which row wins.
4. :mod:`~assay.adapters.redis.batches` - a batch of rows as that script's arguments.
5. :mod:`~assay.adapters.redis.calls` - what each call of the port asks, and makes of the answers.
6. :mod:`~assay.adapters.redis.connection` - opens a server, refuses an unfit one, sends nothing
   twice; :mod:`~assay.adapters.redis.faults` says what its errors mean.
7. :mod:`~assay.adapters.redis.store` - the port over all of this, and
   :mod:`~assay.adapters.redis.asynchronous` the same for an event loop.
8. :mod:`~assay.adapters.redis.desk` - the store of a desk whose settings name a server.

Needs the extra: ``pip install "assay[redis]"``.
"""

from assay.adapters.redis.address import RedisAddress
from assay.adapters.redis.asynchronous import AsyncRedisStore
from assay.adapters.redis.store import RedisStore

__all__ = ["AsyncRedisStore", "RedisAddress", "RedisStore"]
