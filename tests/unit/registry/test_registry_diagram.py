"""The pictures of a version's life show the rules, all of them and no others."""

import re
from xml.etree import ElementTree as ET

import pytest

from assay.domain.versions import Stage
from assay.errors import Refused
from assay.registry import EventType
from assay.registry.diagram import (
    lifecycle_dot,
    lifecycle_markdown,
    lifecycle_moves,
    lifecycle_svg,
)
from assay.registry.lifecycle import MOVES, stage_changes


def test_every_move_that_the_rules_make_is_there_and_no_other():
    made = set()
    for event in MOVES:
        for stage in Stage:
            for keep in (False, True) if event is EventType.ROLLBACK else (False,):
                try:
                    changes = stage_changes(
                        event, version="2", stage=stage, production="1", keep=keep
                    )
                except Refused:
                    continue
                for change in changes:
                    another = change.version == "1"
                    start = Stage.PRODUCTION if another else stage
                    # Keeping is about the version that goes, not the one that comes.
                    made.add((event, start, change.stage, another, keep and another))
    shown = {(one.event, one.start, one.end, one.of_another, one.keep) for one in lifecycle_moves()}
    assert shown == made | {(EventType.REGISTER, None, Stage.STAGED, False, False)}


@pytest.mark.parametrize("make", [lifecycle_dot, lifecycle_svg, lifecycle_markdown])
def test_every_form_names_every_stage_and_every_move(make):
    text = make()
    for move in lifecycle_moves():
        assert move.label in text
        assert str(move.end) in text


def test_the_picture_is_well_formed_and_nothing_lies_outside_of_it():
    root = ET.fromstring(lifecycle_svg())
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    texts = [one for one in root if one.tag.endswith("}text")]
    assert len(texts) == len(lifecycle_moves()) + len(Stage)
    for one in texts:
        assert 0 < float(one.attrib["x"]) < width
        assert 0 < float(one.attrib["y"]) < height
    for path in (one for one in root if one.tag.endswith("}path")):
        for x, y in re.findall(r"([\d.]+),([\d.-]+)", path.attrib["d"])[::3]:
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height
