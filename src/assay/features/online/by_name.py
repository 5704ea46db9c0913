"""Rows of one manifest, read by the names of another of the same view.

A stored row says under which manifest it was computed; the published manifest says which value
stands where. So a reader that was built before a feature was added reads newer rows, and one that
was built after it reads older rows, in which the feature is missing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from assay.features.definition.evolution import agree
from assay.features.definition.manifest import Manifest
from assay.features.online.store import StoredRow


class NamedRows:
    """Reads rows of a view by the names of one manifest.

    Parameters
    ----------
    wanted: whose features are read, in its order.
    find: gives the manifest of a hash, as :meth:`ManifestCatalogue.get` does; asked once for each
        hash that rows carry.
    """

    def __init__(self, wanted: Manifest, find: Callable[[str], Manifest]) -> None:
        self.wanted = wanted
        self._find = find
        self._places: dict[str, NDArray[np.intp] | slice | None] = {}

    def can_read(self, manifest: str) -> bool:
        """Whether rows of this manifest can be read: names that both have mean the same.

        Raises
        ------
        NotFound: nobody has published it. Tampered: it is not what its hash says.
        """
        return manifest == self.wanted.hash or self._placed(manifest) is not None

    def values(self, row: StoredRow) -> NDArray[np.float64] | None:
        """The row's values by the wanted names, bit for bit; NaN where it has no such feature.

        None where the row's manifest means something else by one of the names.

        Raises
        ------
        NotFound: nobody has published the row's manifest. Tampered: it is not what its hash says.
        """
        if row.manifest == self.wanted.hash:
            return row.values
        places = self._placed(row.manifest)
        if places is None:
            return None
        if isinstance(places, slice):
            return row.values[places]
        # One place behind the last value holds what is missing.
        return np.append(row.values, np.nan)[places]

    def _placed(self, manifest: str) -> NDArray[np.intp] | slice | None:
        if manifest not in self._places:
            stored = self._find(manifest)
            self._places[manifest] = _places(self.wanted, stored)
        return self._places[manifest]


def _places(wanted: Manifest, stored: Manifest) -> NDArray[np.intp] | slice | None:
    """Where the wanted values stand in a stored row; None where the names mean something else."""
    if not agree(wanted, stored):
        return None
    mine, theirs = wanted.feature_names, stored.feature_names
    if theirs[: len(mine)] == mine:
        return slice(len(mine))  # features were added since: a view of the row, and no copy
    names = {name: place for place, name in enumerate(theirs)}
    return np.array([names.get(name, len(names)) for name in mine], dtype=np.intp)
