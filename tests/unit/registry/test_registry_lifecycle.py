import pytest

from assay.domain.versions import Stage
from assay.errors import Refused
from assay.registry import EventType
from assay.registry.lifecycle import MOVES, StageChange, stage_changes

# The lifecycle once more, as the interface states it, in other words than the code's.
ALLOWED = {
    ("promote", "staged"): "production",
    ("break_glass", "staged"): "production",
    ("fail", "staged"): "failed",
    ("fail", "production"): "failed",
    ("rollback", "archived"): "production",
}


@pytest.mark.parametrize("event", list(EventType))
@pytest.mark.parametrize("stage", list(Stage))
def test_only_the_stated_moves_exist(event, stage):
    expected = ALLOWED.get((str(event), str(stage)))
    if expected is None:
        with pytest.raises(Refused, match=f"it is {stage}"):
            stage_changes(event, version="1.0.0", stage=stage, production=None)
    else:
        assert stage_changes(event, version="1.0.0", stage=stage, production=None) == (
            StageChange("1.0.0", Stage(expected)),
        )


@pytest.mark.parametrize(
    ("event", "stage", "keep", "displaced"),
    [
        (EventType.PROMOTE, Stage.STAGED, False, Stage.ARCHIVED),
        (EventType.BREAK_GLASS, Stage.STAGED, False, Stage.ARCHIVED),
        (EventType.ROLLBACK, Stage.ARCHIVED, False, Stage.FAILED),
        (EventType.ROLLBACK, Stage.ARCHIVED, True, Stage.ARCHIVED),
    ],
)
def test_a_new_champion_displaces_the_old_one_first(event, stage, keep, displaced):
    changes = stage_changes(event, version="2.0.0", stage=stage, production="1.0.0", keep=keep)
    assert changes == (StageChange("1.0.0", displaced), StageChange("2.0.0", Stage.PRODUCTION))


def test_failing_a_staged_version_leaves_the_champion_alone():
    changes = stage_changes(EventType.FAIL, version="2.0.0", stage=Stage.STAGED, production="1.0.0")
    assert changes == (StageChange("2.0.0", Stage.FAILED),)


def test_nothing_leaves_failed():
    for event in MOVES:
        with pytest.raises(Refused):
            stage_changes(event, version="1.0.0", stage=Stage.FAILED, production=None)
