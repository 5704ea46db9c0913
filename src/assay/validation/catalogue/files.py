"""Measurements of a version's files and of what it was made from."""

from __future__ import annotations

from typing import Final

from assay.validation.catalogue.explanation import Explanation

_OURS: Final = "a rule of this package"

FILES: Final = (
    Explanation(
        name="onnx_parity",
        meaning="largest difference between the trained model and its ONNX form",
        protects="serving a model that is not the one which was trained",
        formula="max |native(x) - onnx(x)| over real rows and rows at every split threshold",
        convention="Absolute, in units of the prediction; float32 inputs.",
        source=_OURS,
        lies="Rows that nobody tried are not compared; thresholds are, because trees differ there.",
        reading="1e-5 or less passes; larger ones are named with their row in parity.json.",
    ),
    Explanation(
        name="schema",
        meaning="whether its declared input is the one it was trained on",
        protects="columns in another order, which every model accepts in silence",
        formula="1 if CRC-32, names, order and type are equal, else 0",
        convention="Yes is 1, no is 0; the sample is the number of columns.",
        source=_OURS,
        lies="Equal names say nothing about equal meaning: the manifest does.",
        reading="0 names the columns that are missing or unexpected.",
    ),
    Explanation(
        name="readable_files",
        meaning="whether every file of a version that is no model can be read",
        protects="definitions and weights that break when they are needed",
        formula="1 if every file was read in its own format",
        convention="Yes is 1; a file that cannot be read is an error and no evidence.",
        source=_OURS,
        lies="Readable is not right.",
        reading="The sample is the number of files.",
    ),
    Explanation(
        name="signature",
        meaning="whether its signature verifies against a trusted key",
        protects="files that somebody changed or brought in from elsewhere",
        formula="1 if the signature over the manifest of files verifies, else 0",
        convention="Ed25519 over every file's SHA-256; keys from the desk's trust policy.",
        source="Bernstein et al. (2012), High-speed high-security signatures",
        lies="A stolen key signs as well as its owner does.",
        reading="The side note names the signer.",
    ),
    Explanation(
        name="training_set_rebuilt",
        meaning="whether its training set can be rebuilt with the same digest",
        protects="a model of which nobody can say what it learnt from",
        formula="1 if the set rebuilt from its snapshots and manifests has the recorded digest",
        convention="Bit for bit, in another pass before training.",
        source=_OURS,
        lies="It was rebuilt when it was trained; assay parity verify rebuilds it today.",
        reading="0: do not trust any number of this version.",
    ),
    Explanation(
        name="dataset_compatibility",
        meaning="whether the data sets it was made from are there now, at the same versions",
        protects="serving a model whose data no longer exist or became others",
        formula="1 when every data set is at its version, 0.5 when one moved on, 0 when one is "
        "missing",
        convention="Data sets that the model never used do not matter.",
        source=_OURS,
        lies="A desk that ingests every day moves on every day: 0.5 is the rule, not the "
        "exception.",
        reading=">= 0.5 asks that nothing is missing; equals 1 is the strict form.",
        repeatable=False,
    ),
    Explanation(
        name="onnx_p95_batch32_ms",
        meaning="95th percentile of the time of its ONNX form at batch 32, in milliseconds",
        protects="a model that is too slow to serve",
        formula="95th percentile over the timed runs of bench.json, batch 32",
        convention="One thread, ONNX Runtime, parsing aside, on the machine that trained it.",
        source="The ONNX Runtime session's own run, timed by a monotonic clock",
        lies="It is another machine than production, and other load.",
        reading="60 ms is a floor; models of this package need microseconds.",
    ),
)
