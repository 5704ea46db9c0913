"""The report on online following as one HTML page, in the look of the desk's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from assay.domain.instants import parse, render
from assay.domain.verdicts import Verdict
from assay.orchestration.parity.following import Following, key_words, share_of
from assay.orchestration.parity.pictures import pictures_of, unequal
from assay.orchestration.parity.proving import SHOWN, OnlineSide, ViewProof
from assay.orchestration.report import words
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.style import CSS, SCRIPT

# Wide tables scroll inside their card; a cell is never broken.
_CSS: Final = """
.rows th,.rows td{white-space:nowrap}
.rows tbody th{padding-right:12px}
main ol{padding-left:1.4em}main ul{padding-left:1.2em}main li{margin:3px 0}
"""
_DAYS: Final = 120  # days in the table, the last ones and those that differ


def render_following(following: Following) -> str:
    """The page as one HTML document that needs nothing else. Equal reports give equal pages."""
    views = [_view(proof) for proof in following.proofs]
    body = element(
        "div",
        _header(following),
        element("main", _advice(following), views),
        _footer(following),
        class_="page",
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{following.desk}: online following"),
        element("style", Markup(CSS + _CSS)),
    )
    document = element("html", head, element("body", body, element("script", Markup(SCRIPT))),
                       lang="en")  # fmt: skip
    return f"<!DOCTYPE html>\n{document}\n"


def _header(following: Following) -> Markup:
    values = sum(proof.report.values_compared for proof in following.proofs)
    equal = sum(proof.report.bitwise_equal for proof in following.proofs)
    facts = (
        ("Values compared", words.count(values)),
        ("Equal bit for bit", share_of(equal, values)),
        ("Rows missing online", words.count(sum(p.report.missing for p in following.proofs))),
        ("Rows only online", words.count(sum(p.report.extra for p in following.proofs))),
        ("Days that differ", words.count(sum(len(unequal(p.days)) for p in following.proofs))),
        ("Mode", "enforcing" if following.enforced else "diagnostic"),
    )
    said = {
        Verdict.PASS: "Online is what history says",
        Verdict.FAIL: "Online is not what history says",
        Verdict.INDETERMINATE: "Nothing could be decided",
    }[following.verdict]
    return element(
        "header",
        element("p", f"Assay · online following · {following.desk}", class_="eyebrow"),
        element("h1", said),
        element("p", _verdict(following.verdict), " As of ",
                element("strong", words.moment(following.at)), "."),
        element("dl", [_fact(*one) for one in facts], class_="facts"),
    )  # fmt: skip


def _advice(following: Following) -> Markup:
    return element(
        "section",
        element("h2", "What to do", id="advice"),
        element(
            "article",
            element("ol", [element("li", _with_code(one)) for one in following.advice]),
            class_="card",
        ),
        aria_labelledby="advice",
    )


def _view(proof: ViewProof) -> Markup:
    return element(
        "section",
        element("h2", f"View {proof.view}", id=f"view-{proof.view}"),
        element("p", _how(proof), class_="intro"),
        _finding(proof),
        element("h3", "Pictures"),
        element("div", pictures_of(proof), class_="charts"),
        element("h3", "Features"),
        element("article", _scroll(_features(proof)), class_="card"),
        element("h3", "Days and their roots"),
        element("article", _days(proof), class_="card"),
        aria_labelledby=f"view-{proof.view}",
    )  # fmt: skip


def _how(proof: ViewProof) -> str:
    horizon = proof.comparison.horizon.to_json()
    begin = "the beginning" if horizon["from"] is None else words.moment(parse(horizon["from"]))
    end = "the end" if horizon["to"] is None else words.moment(parse(horizon["to"]))
    if proof.side is OnlineSide.STORE:
        said = (
            "Every version of every row that the online store keeps, compared with what was known "
            "when, computed from the facts as they arrived"
        )
    else:
        said = (
            "Without an online store to compare with, or with it left aside: the facts fed one by "
            "one to the online driver, compared with the gold table"
        )
    return f"{said}. Event times from {begin} to {end}."


def _finding(proof: ViewProof) -> Markup:
    judged, report, found = proof.judgement, proof.report, proof.comparison
    facts: tuple[tuple[str, str], ...] = (
        ("Rows of history", words.count(found.offline_rows)),
        ("Rows online", words.count(found.online_rows)),
        ("Values equal", f"{report.bitwise_equal:,} of {report.values_compared:,}"),
        ("Largest ULP", words.figure(report.largest_ulp)),
        ("Refused by the store", words.count(len(found.refused))),
        ("Other manifests", words.count(sum(found.foreign.values()))),
    )  # fmt: skip
    if found.answers is not None:
        facts += (
            ("Answers asked for", words.count(found.answers.asked)),
            ("Answers wrong", words.count(found.answers.wrong)),
        )
    return element(
        "article",
        element("h4", _verdict(judged.verdict), f" Asked for: {proof.policy.describe()}"),
        element("dl", [_fact(*one) for one in facts], class_="facts"),
        element("ul", [element("li", one) for one in judged.reasons[:SHOWN]], class_="because")
        if judged.reasons
        else None,
        _worst(proof),
        _named("Rows missing online", report.missing, report.missing_keys),
        _named("Rows that history does not know", report.extra, report.extra_keys),
        _named("Rows under another manifest", sum(found.foreign.values()), found.foreign_keys),
        class_="card",
    )


def _worst(proof: ViewProof) -> Markup | None:
    shown = proof.report.differences
    if not shown:
        return None
    rows = [
        (one.key[0], render(int(one.key[1])), render(int(one.key[2])), one.feature,
         _value(one.offline), _value(one.online),
         str(one.kind) if one.ulp is None else f"{words.figure(one.ulp)} ULP",
         words.count(one.others))
        for one in shown
    ]  # fmt: skip
    titles = ("Entity", "Event time", "Known time", "Worst feature", "History", "Online",
              "How far", "Other features")  # fmt: skip
    return element(
        "details",
        element("summary", f"Rows that differ, the worst first ({len(shown)} shown)"),
        _scroll(_table(titles, rows)),
        open=True,
    )


def _named(title: str, count: int, keys: Sequence[Sequence[str | int]]) -> Markup | None:
    if not count:
        return None
    more = [element("li", f"and {words.count(count - len(keys))} more")]
    return element(
        "details",
        element("summary", f"{title}: {words.count(count)}"),
        element("ul", [element("li", key_words(key)) for key in keys],
                more if count > len(keys) else None),
    )  # fmt: skip


def _features(proof: ViewProof) -> Markup:
    rows = []
    for one in sorted(proof.report.features, key=lambda one: one.equal - one.compared):
        distance = "does not vary" if one.degenerate else "none"
        if one.wasserstein is not None:
            distance = words.figure(one.wasserstein)
        rows.append(
            (one.name, words.count(one.compared), share_of(one.equal, one.compared),
             words.figure(one.largest_ulp), words.figure(one.largest_abs), distance,
             words.count(one.one_missing), words.count(one.nan_against_null))
        )  # fmt: skip
    titles = ("Feature", "Compared", "Equal", "Largest ULP", "Largest difference",
              "Distance / spread", "One side missing", "NaN against null")  # fmt: skip
    return _table(titles, rows)


def _days(proof: ViewProof) -> Markup:
    offline_root, online_root = proof.roots
    different = unequal(proof.days)
    shown = sorted({*different[:_DAYS], *proof.days[-_DAYS:]}, key=lambda day: day.day)
    rows = [
        (day.day, words.count(day.offline_rows), words.count(day.online_rows),
         element("code", day.offline_root[:16]),
         "the same" if day.equal else element("code", day.online_root[:16]),
         "" if day.first is None else f"{day.what}: {key_words(day.first)}")
        for day in shown
    ]  # fmt: skip
    titles = ("Day (UTC)", "Rows, history", "Rows, online", "Root, history", "Root, online",
              "First row that differs")  # fmt: skip
    return join(
        element("p", "Root over all days of history: ", element("code", offline_root)),
        element("p", "Root over all days online: ", element("code", online_root)),
        element(
            "p",
            "Whoever has the same rows has the same roots. Two parties that do not agree find the "
            "first row that differs by exchanging a few hashes, without showing a row.",
            class_="aside",
        ),
        element(
            "details",
            element("summary", f"{words.count(len(shown))} of {words.count(len(proof.days))} days"),
            _scroll(_table(titles, rows)),
            open=bool(different),
        ),
    )


def _footer(following: Following) -> Markup:
    rows = [
        (f"{what} of {proof.view}", value)
        for proof in following.proofs
        for what, value in (("manifest", proof.manifest), ("source", proof.source),
                            ("gold", proof.gold))
        if value is not None
    ]  # fmt: skip
    body = [
        element("tr", element("th", name, scope="row"), element("td", element("code", value)))
        for name, value in rows
    ]
    stem = render(following.at)[:10]
    return element(
        "footer",
        element("h2", "Provenance"),
        element("p", "The figures, every day and its roots are in ",
                element("code", f"{stem}.json"), " beside this page."),
        element("table", element("tbody", body), class_="pairs hashes"),
    )  # fmt: skip


def _verdict(verdict: Verdict) -> Markup:
    mark, said, look = words.VERDICTS[verdict]
    return element("span", f"{mark} {said}", class_=f"verdict {look}")


def _fact(name: str, value: str) -> Markup:
    return element("div", element("dt", name), element("dd", value))


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    head = element("tr", [element("th", title, scope="col") for title in titles])
    body = [
        element("tr", element("th", first, scope="row"), [element("td", cell) for cell in others])
        for first, *others in rows
    ]
    return element("table", element("thead", head), element("tbody", body), class_="numbers rows")


def _scroll(table: Markup) -> Markup:
    return element("div", table, class_="scroll")


def _value(value: float | None) -> str:
    return "missing" if value is None else repr(value)


def _with_code(text: str) -> Markup:
    """Text with the parts between backticks as code."""
    return join([element("code", part) if n % 2 else part for n, part in
                 enumerate(text.split("`"))])  # fmt: skip
