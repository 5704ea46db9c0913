"""From settings to wired objects. The only package that touches the real clock and the environment.

1. A desk is opened from its folder (:mod:`~assay.bootstrap.desks`), with the backends that its
   settings name (:mod:`~assay.bootstrap.backends`): embedded ones, or adapters, which nothing else
   imports.
2. Services are made of it (:mod:`~assay.bootstrap.services`).
3. A new one is written from the example (:mod:`~assay.bootstrap.new_desks`).
"""

from assay.bootstrap.backends import (
    open_objects,
)
from assay.bootstrap.desks import (
    claim_registry,
    open_desk,
    open_registry_api,
    private_key_folder,
    query_registry,
    token_folder,
)
from assay.bootstrap.new_desks import (
    Member,
    create_desk,
    example_path,
)
from assay.bootstrap.services import (
    asks_for_tokens,
    challenger_files,
    delivery_rules,
    open_kill_switch,
    open_predictor,
    open_service,
    prediction_log,
    record_ends,
    serving_settings,
)

__all__ = [
    "Member",
    "asks_for_tokens",
    "challenger_files",
    "claim_registry",
    "create_desk",
    "delivery_rules",
    "example_path",
    "open_desk",
    "open_kill_switch",
    "open_objects",
    "open_predictor",
    "open_registry_api",
    "open_service",
    "prediction_log",
    "private_key_folder",
    "query_registry",
    "record_ends",
    "serving_settings",
    "token_folder",
]
