"""Who works on a desk, and what each role may do.

``configs/access.yaml``::

    users:
      jane.doe:
        roles: [quant]
        identities: [jane.doe, jane.laptop]   # names of her keys; her own name when left out
      nightly:
        kind: service
        owner: jane.doe                       # the person it acts for
        roles: [quant]

An identity belongs to one user, and a service to one person. So two keys of one person, and a
service beside its owner, count as that person once wherever people are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from assay.access.denials import AccessDenied, Denial
from assay.errors import ConfigurationError, ContractViolation, did_you_mean
from assay.registry.keyring import check_identity
from assay.storage.documents import read_mapping


class Scope(StrEnum):
    """One thing that a caller may do."""

    READ = "model:read"
    WRITE = "model:write"
    APPROVE = "model:approve"
    PROMOTE = "model:promote"
    ROLLBACK = "model:rollback"
    BREAK_GLASS = "model:break_glass"
    ADMIN = "access:admin"


class Role(StrEnum):
    """What somebody does on the desk."""

    QUANT = "quant"
    MLOPS = "mlops"
    SRE = "sre"
    AUDITOR = "auditor"
    ADMIN = "admin"


ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = {
    Role.QUANT: frozenset({Scope.READ, Scope.WRITE, Scope.APPROVE}),
    Role.MLOPS: frozenset({Scope.READ, Scope.WRITE, Scope.APPROVE, Scope.PROMOTE, Scope.ROLLBACK}),
    Role.SRE: frozenset({Scope.READ, Scope.ROLLBACK, Scope.BREAK_GLASS}),
    Role.AUDITOR: frozenset({Scope.READ}),
    Role.ADMIN: frozenset({Scope.READ, Scope.ADMIN}),
}
"""What each role may do. Several roles add up; nobody may do what no role of theirs does."""

PERSON, SERVICE = "person", "service"
_KEYS = ("kind", "roles", "identities", "owner")


@dataclass(frozen=True, slots=True)
class User:
    """A person or a service. ``owner`` is the person that a service acts for."""

    name: str
    kind: str
    roles: tuple[Role, ...]
    identities: tuple[str, ...]
    owner: str | None = None

    @property
    def scopes(self) -> frozenset[Scope]:
        """Everything that the roles allow."""
        return frozenset().union(*(ROLE_SCOPES[role] for role in self.roles))

    @property
    def person(self) -> str:
        """The person behind it, for counting people."""
        return self.owner or self.name

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "roles": [str(role) for role in self.roles],
            "scopes": sorted(self.scopes),
            "identities": list(self.identities),
            "owner": self.owner,
        }


@dataclass(frozen=True)
class AccessPolicy:
    """The users of a desk by name."""

    users: Mapping[str, User]

    def user(self, name: str) -> User:
        """A user by name.

        Raises
        ------
        AccessDenied: nobody has that name.
        """
        found = self.users.get(name)
        if found is None:
            raise AccessDenied(
                Denial.UNKNOWN_USER,
                f"{name!r} is no user of this desk",
                hint="configs/access.yaml names them: assay access users",
            )
        return found

    def user_of(self, identity: str) -> User:
        """The user that a key's identity belongs to; raises as :meth:`user` does."""
        for user in self.users.values():
            if identity in user.identities:
                return user
        raise AccessDenied(
            Denial.UNKNOWN_USER,
            f"identity {identity!r} belongs to no user of this desk",
            hint="configs/access.yaml names users and their identities: assay access users",
        )

    def person_of(self, identity: str) -> str:
        """The person behind an identity; the identity itself for one who is no user any more."""
        try:
            return self.user_of(identity).person
        except AccessDenied:
            return identity

    def require(self, identity: str, scope: Scope) -> User:
        """The user of an identity, who may do this.

        Raises
        ------
        AccessDenied: it belongs to nobody, or no role of that user allows it.
        """
        user = self.user_of(identity)
        if scope not in user.scopes:
            raise missing_scope(user, scope)
        return user

    def require_approver(self, identity: str) -> User:
        """The user of an identity, a person who may approve; raises as :meth:`require` does."""
        user = self.require(identity, Scope.APPROVE)
        if user.kind != PERSON:
            raise AccessDenied(Denial.NOT_A_PERSON, f"{user.name} is a service: people approve")
        return user


def missing_scope(user: User, scope: Scope) -> AccessDenied:
    """What to raise for a user whose roles do not allow something."""
    able = sorted(str(role) for role, scopes in ROLE_SCOPES.items() if scope in scopes)
    return AccessDenied(
        Denial.MISSING_SCOPE,
        f"{user.name} has the roles {', '.join(user.roles) or 'none'}, which do not allow {scope}",
        hint=f"the roles that do: {', '.join(able)}; configs/access.yaml gives them",
    )


def load_access(path: Path) -> AccessPolicy | None:
    """Read the users of a desk; None where there is no such file.

    Raises
    ------
    ConfigurationError: a key, role, kind or identity is wrong, or belongs to two users.
    """
    if not path.exists():
        return None
    document = read_mapping(path)
    if set(document) != {"users"} or not isinstance(document["users"], dict):
        raise ConfigurationError(f"{path}: expected one key, users, with one entry per user")
    users = {name: _user(path, name, given) for name, given in document["users"].items()}
    owners: dict[str, str] = {}
    for user in users.values():
        for identity in user.identities:
            if identity in owners:
                raise ConfigurationError(
                    f"{path}: identity {identity!r} belongs to {owners[identity]} and {user.name}: "
                    "expected one user"
                )
            owners[identity] = user.name
        if user.owner is not None and (user.owner not in users or users[user.owner].kind != PERSON):
            raise ConfigurationError(
                f"{path}: owner of {user.name} is {user.owner!r}: expected a person",
                hint=did_you_mean(user.owner, [u.name for u in users.values() if u.kind == PERSON]),
            )
    return AccessPolicy(users)


def _user(path: Path, name: str, given: Any) -> User:
    where = f"{path}: users.{name}"
    if not isinstance(given, dict):
        raise ConfigurationError(f"{where}: expected keys: {', '.join(_KEYS)}")
    for key in given:
        if key not in _KEYS:
            raise ConfigurationError(f"{where}: unknown key {key!r}", hint=did_you_mean(key, _KEYS))
    kind = given.get("kind", PERSON)
    if not isinstance(kind, str) or kind not in {PERSON, SERVICE}:
        raise ConfigurationError(f"{where}.kind is {kind!r}: expected {PERSON} or {SERVICE}")
    owner = given.get("owner")
    if (kind == SERVICE) != isinstance(owner, str):
        raise ConfigurationError(
            f"{where}.owner is {owner!r}: expected the person a service acts for, and none "
            "for a person"
        )
    try:
        identities = tuple(
            check_identity(one) for one in _texts(where, "identities", given, default=[name])
        )
        check_identity(name)
    except ContractViolation as error:
        raise ConfigurationError(f"{where}: {error.message}") from None
    return User(name, kind, _roles(where, given), identities, owner)


def _roles(where: str, given: Mapping[str, Any]) -> tuple[Role, ...]:
    roles = []
    for word in _texts(where, "roles", given, default=[]):
        if word not in set(Role):
            raise ConfigurationError(
                f"{where}.roles: unknown role {word!r}", hint=did_you_mean(word, list(Role))
            )
        roles.append(Role(word))
    return tuple(dict.fromkeys(roles))


def _texts(where: str, key: str, given: Mapping[str, Any], *, default: list[str]) -> list[str]:
    found = given.get(key, default)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ConfigurationError(f"{where}.{key} is {found!r}: expected a list of names")
    return found
