"""Redis: the online store that many processes and machines share.

1. :mod:`~assay.adapters.redis.address` - where the server is; passwords stay out of every text.
2. :mod:`~assay.adapters.redis.connection` - opens it, refuses a server that is unfit, and says what
   its errors mean. Nothing is sent twice.
3. :mod:`~assay.adapters.redis.keys` - one hash tag for each view; places in the order as bytes.
4. :mod:`~assay.adapters.redis.scripts` - the Lua that decides inside the server which row wins.
5. :mod:`~assay.adapters.redis.batches` - a batch of rows as that script's arguments.
6. :mod:`~assay.adapters.redis.store` - the port over all of this.

Needs the extra: ``pip install "assay[redis]"``.
"""

from assay.adapters.redis.address import RedisAddress
from assay.adapters.redis.store import RedisStore

__all__ = ["RedisAddress", "RedisStore"]
