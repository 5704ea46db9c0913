"""Lists of the catalogue, a page at a time: the database filters and stops, not the caller."""

from __future__ import annotations

from dataclasses import dataclass

from assay.domain.versions import SemanticVersion, Stage
from assay.registry.catalogue import VERSION_COLUMNS, Catalogue, VersionRecord, records_of

_LATEST = "(SELECT {column} FROM versions v WHERE v.name = m.name\
 ORDER BY v.major DESC, v.minor DESC, v.patch DESC LIMIT 1)"
_MODELS = f"""
SELECT name, versions, kind, latest FROM (
    SELECT m.name AS name, count(*) AS versions,
           {_LATEST.format(column="v.kind")} AS kind, {_LATEST.format(column="v.version")} AS latest
    FROM versions m WHERE {{where}} GROUP BY m.name
) AS models {{kind}} ORDER BY name LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One model: how many versions it has, the newest and its kind, and the one in production."""

    name: str
    versions: int
    kind: str
    latest: str
    current: VersionRecord | None


def models_page(
    catalogue: Catalogue,
    *,
    name: str | None = None,
    after: str | None = None,
    kind: str | None = None,
    limit: int,
) -> tuple[ModelSummary, ...]:
    """The first models by name: of one name, behind a name, whose newest version is of a kind."""
    where, values = ["1 = 1"], list[str | int]()
    for condition, value in (("m.name = ?", name), ("m.name > ?", after)):
        if value is not None:
            where.append(condition)
            values.append(value)
    if kind is not None:
        values.append(kind)
    query = _MODELS.format(where=" AND ".join(where), kind="" if kind is None else "WHERE kind = ?")
    with catalogue.reading() as connection:
        rows = connection.execute(query, (*values, limit)).fetchall()
        names = [row[0] for row in rows]
        live = {}
        if names:
            found = connection.execute(
                f"SELECT {VERSION_COLUMNS} FROM versions WHERE stage = 'production'"
                f" AND name IN ({', '.join('?' * len(names))})",
                names,
            )
            live = {record.name: record for record in records_of(found)}
    return tuple(
        ModelSummary(name, versions, kind, latest, live.get(name))
        for name, versions, kind, latest in rows
    )


def versions_page(
    catalogue: Catalogue,
    name: str,
    *,
    after: SemanticVersion | None = None,
    stage: Stage | None = None,
    author: str | None = None,
    limit: int,
) -> tuple[VersionRecord, ...]:
    """The first versions of a model by number: those behind one, in a stage, of an author."""
    where, values = ["name = ?"], list[str | int]([name])
    if after is not None:
        where.append("(major, minor, patch) > (?, ?, ?)")
        values += [after.major, after.minor, after.patch]
    for condition, value in (("stage = ?", stage), ("author = ?", author)):
        if value is not None:
            where.append(condition)
            values.append(str(value))
    query = (
        f"SELECT {VERSION_COLUMNS} FROM versions WHERE {' AND '.join(where)}"
        " ORDER BY major, minor, patch LIMIT ?"
    )
    with catalogue.reading() as connection:
        return records_of(connection.execute(query, (*values, limit)))
