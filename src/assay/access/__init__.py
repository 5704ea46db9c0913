"""Who may do what on a desk, and how they prove that it is them.

1. People and services have roles, and roles have scopes (:mod:`~assay.access.users`).
2. On the machine itself a person proves who they are by their own key
   (:mod:`~assay.access.proof`); elsewhere by a token that such a proof was exchanged for.
3. Tokens (:mod:`~assay.access.tokens`) are signed by the desk's keys, which rotate
   (:mod:`~assay.access.token_keys`), live shortly, and can be revoked
   (:mod:`~assay.access.revocation`).
4. :class:`Authenticator` issues tokens and recognises who shows one.
5. Every refusal has its own word (:mod:`~assay.access.denials`) and its own line in a chained log
   (:mod:`~assay.access.access_log`); what strangers repeat is counted
   (:mod:`~assay.access.repeated`). Where nobody may wait for a disk, it is written in a thread of
   its own (:mod:`~assay.access.record_writer`).
"""

from assay.access.access_log import AccessEvent, AccessLog
from assay.access.authenticator import Authenticator, Caller, IssuedToken, bearer_token
from assay.access.denials import UNPROVEN, AccessDenied, Denial
from assay.access.proof import check_proof, make_proof, require_here
from assay.access.record_writer import RecordWriter
from assay.access.repeated import RepeatedRefusals
from assay.access.revocation import Revocation, Revocations
from assay.access.token_keys import OtherIssuer, TokenKeys
from assay.access.users import ROLE_SCOPES, AccessPolicy, Role, Scope, User, load_access

__all__ = [
    "ROLE_SCOPES",
    "UNPROVEN",
    "AccessDenied",
    "AccessEvent",
    "AccessLog",
    "AccessPolicy",
    "Authenticator",
    "Caller",
    "Denial",
    "IssuedToken",
    "OtherIssuer",
    "RecordWriter",
    "RepeatedRefusals",
    "Revocation",
    "Revocations",
    "Role",
    "Scope",
    "TokenKeys",
    "User",
    "bearer_token",
    "check_proof",
    "load_access",
    "make_proof",
    "require_here",
]
