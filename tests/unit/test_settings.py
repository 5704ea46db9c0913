from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from assay import bootstrap
from assay.delivery.canary import CanaryPolicy
from assay.delivery.controller import RetrainConfig
from assay.errors import ConfigurationError, NotFound
from assay.settings import Settings, load_settings


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    for folder in ("features", "models", "configs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "configs/sources.yaml").write_text("")
    (tmp_path / "configs/gates.yaml").write_text("")
    (tmp_path / "assay.yaml").write_text("")
    return tmp_path


def write(desk: Path, document: object) -> None:
    (desk / "assay.yaml").write_text(yaml.safe_dump(document))


def test_an_empty_file_gives_embedded_defaults_with_absolute_paths(desk: Path) -> None:
    settings = load_settings(desk, {})
    assert settings.lake.root == desk / "data"
    assert settings.registry.root == desk / "data/models"
    assert settings.keys.private is None


def test_a_folder_without_a_desk_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="assay init"):
        load_settings(tmp_path, {})


def test_an_unknown_key_names_the_nearest_one(desk: Path) -> None:
    write(desk, {"training": {"thread": 3}})
    with pytest.raises(ConfigurationError) as caught:
        load_settings(desk, {})
    assert "assay.yaml: training: unknown key 'thread'" in caught.value.message
    assert caught.value.hint == "did you mean 'threads'?"


def test_an_unknown_section_lists_or_suggests_the_allowed_ones(desk: Path) -> None:
    write(desk, {"registri": {}})
    with pytest.raises(ConfigurationError, match="did you mean 'registry'"):
        load_settings(desk, {})


@pytest.mark.parametrize("value", ["two", True, 1.5, None, [2]])
def test_a_wrong_type_names_key_value_and_expectation(desk: Path, value: object) -> None:
    write(desk, {"training": {"threads": value}})
    with pytest.raises(ConfigurationError, match=r"training\.threads is .*whole number"):
        load_settings(desk, {})


def test_the_rules_of_delivery_have_one_set_of_defaults(desk: Path) -> None:
    assert bootstrap.delivery_rules(desk) == (RetrainConfig(), CanaryPolicy())


def test_the_rules_of_delivery_come_from_the_file_and_the_environment(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(desk, {"canary": {"slow_ms": 5, "hours": 2}, "retraining": {"shadow_mode_days": 3}})
    monkeypatch.setenv("ASSAY_CANARY__SLOW_MS", "7.5")
    config, policy = bootstrap.delivery_rules(desk)
    assert (config.shadow_mode_days, policy.slow_ms, policy.hours) == (3.0, 7.5, 2.0)


@pytest.mark.parametrize(
    ("section", "keys", "words"),
    [
        ("canary", {"alpha": 0}, r"canary\.alpha is 0: expected 1e-06 or more"),
        ("canary", {"block": 2.5}, r"canary\.block is 2\.5 .*expected a whole number"),
        ("canary", {"slow_mss": 1}, "canary: unknown key 'slow_mss'"),
        ("canary", {"far": 0.9, "far_margin": 0.2}, "canary: far 0.9 and far_margin 0.2: expected"),
        ("canary", {"rank_margin": 0.48}, "canary: rank_correlation 0.95 less rank_margin 0.48"),
        ("canary", {"hours": 500}, r"canary: hours 500\.0, longest_hours 336\.0"),
        ("retraining", {"canary_share": 0.7}, r"retraining\.canary_share is 0\.7: expected 0\.5"),
        ("retraining", {"auto_rollback_enabled": "off"}, "expected true or false"),
    ],
)
def test_rules_of_delivery_that_make_no_sense_are_refused_by_name(
    desk: Path, section: str, keys: dict[str, object], words: str
) -> None:
    write(desk, {section: keys})
    with pytest.raises(ConfigurationError, match=words):
        bootstrap.delivery_rules(desk)


def test_a_number_below_its_minimum_is_refused(desk: Path) -> None:
    write(desk, {"training": {"threads": 0}})
    with pytest.raises(ConfigurationError, match="expected 1 or more"):
        load_settings(desk, {})


def test_the_environment_overrides_one_key(desk: Path) -> None:
    write(desk, {"training": {"threads": 1, "runs": "elsewhere"}})
    settings = load_settings(desk, {"ASSAY_TRAINING__THREADS": "4", "PATH": "x"})
    assert settings.training.threads == 4
    assert settings.training.runs == desk / "elsewhere"


def test_a_wrong_environment_variable_is_refused_with_its_name(desk: Path) -> None:
    with pytest.raises(ConfigurationError, match="ASSAY_TRAINING__THREDS") as caught:
        load_settings(desk, {"ASSAY_TRAINING__THREDS": "4"})
    assert caught.value.hint == "did you mean 'threads'?"
    with pytest.raises(ConfigurationError, match="unknown section 'trainig'"):
        load_settings(desk, {"ASSAY_TRAINIG__THREADS": "4"})


def test_a_path_that_must_exist_is_refused_with_the_nearest_name(desk: Path) -> None:
    write(desk, {"delivery": {"policy": "configs/gate.yaml"}})
    with pytest.raises(ConfigurationError) as caught:
        load_settings(desk, {})
    assert "delivery.policy" in caught.value.message
    assert caught.value.hint == "did you mean 'gates.yaml'?"


def test_a_path_through_a_file_is_refused(desk: Path) -> None:
    write(desk, {"lake": {"root": "assay.yaml/data"}})
    with pytest.raises(ConfigurationError, match="is a file, not a folder"):
        load_settings(desk, {})


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x80"])
def test_a_file_that_is_not_a_mapping_is_refused_with_its_name(desk: Path, text: str) -> None:
    (desk / "assay.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"assay\.yaml"):
        load_settings(desk, {})


def test_every_setting_has_a_default_and_a_documented_section() -> None:
    for section in dataclasses.fields(Settings):
        value = getattr(Settings(), section.name)
        assert type(value).__doc__
        assert f"``{section.name}``" in type(value).__doc__


def test_a_wrong_value_from_the_environment_names_its_variable(desk: Path) -> None:
    with pytest.raises(ConfigurationError, match="variable ASSAY_TRAINING__THREADS is 'two'"):
        load_settings(desk, {"ASSAY_TRAINING__THREADS": "two"})


@pytest.mark.parametrize("hours", [".nan", ".inf", "-.inf", "0", "-1", "1.0e+30"])
def test_an_approval_that_would_never_hold_or_never_end_is_refused(desk: Path, hours: str) -> None:
    with pytest.raises(ConfigurationError, match="APPROVAL_HOURS"):
        load_settings(desk, {"ASSAY_DELIVERY__APPROVAL_HOURS": hours})


def test_rows_are_kept_in_a_file_unless_a_server_is_named(desk: Path) -> None:
    assert load_settings(desk, {}).features.online_store == "sqlite"
    for url in ("redis://h:6379/0", "rediss://:pw@h", "unix:///run/redis.sock?db=1"):
        write(desk, {"features": {"online_store": url}})
        assert load_settings(desk, {}).features.online_store == url


def test_an_address_from_the_environment_is_taken_as_it_is(desk: Path) -> None:
    url = "redis://:p: #w@h/0"
    settings = load_settings(desk, {"ASSAY_FEATURES__ONLINE_STORE": url})
    assert settings.features.online_store == url


@pytest.mark.parametrize("value", ["sqlit", "s3cret@h", "http://:s3cret@h", "redis:/:s3cret@h"])
def test_a_wrong_address_is_refused_without_repeating_it(desk: Path, value: str) -> None:
    write(desk, {"features": {"online_store": value}})
    with pytest.raises(ConfigurationError, match=r"features\.online_store .* redis://") as caught:
        load_settings(desk, {})
    assert "s3cret" not in str(caught.value)
    write(desk, {})
    with pytest.raises(ConfigurationError, match="ASSAY_FEATURES__ONLINE_STORE") as caught:
        load_settings(desk, {"ASSAY_FEATURES__ONLINE_STORE": value})
    assert "s3cret" not in str(caught.value)


def test_no_representation_of_the_settings_shows_a_password(desk: Path) -> None:
    write(desk, {"features": {"online_store": "redis://:s3cret@h"}})
    assert "s3cret" not in repr(load_settings(desk, {}))


def test_a_value_that_is_no_choice_is_refused_with_the_nearest(desk: Path) -> None:
    write(desk, {"parity": {"rule": "bit"}})
    with pytest.raises(ConfigurationError, match="expected bits or distribution") as caught:
        load_settings(desk, {})
    assert caught.value.hint == "did you mean 'bits'?"
    write(desk, {"parity": {"rule": "distribution", "wasserstein": -1}})
    with pytest.raises(ConfigurationError, match=r"parity\.wasserstein is -1: expected 0 or more"):
        load_settings(desk, {})


def test_the_registry_is_in_files_or_in_postgresql_and_no_password_is_shown(desk: Path) -> None:
    assert load_settings(desk, {}).registry.catalogue == "sqlite"
    url = "postgresql://u:s3cret@h/d?schema=a"
    settings = load_settings(desk, {"ASSAY_REGISTRY__CATALOGUE": url})
    assert settings.registry.catalogue == url
    assert "s3cret" not in repr(settings)
    for value in ("postgres", "mysql://u:s3cret@h/d", "redis://:s3cret@h"):
        with pytest.raises(ConfigurationError, match=r"CATALOGUE .* postgresql://") as caught:
            load_settings(desk, {"ASSAY_REGISTRY__CATALOGUE": value})
        assert "s3cret" not in str(caught.value)


def test_short_names_set_keys_of_inference_and_the_long_name_counts(desk: Path) -> None:
    short = {"INFER_P99_MS_TARGET": "20", "INFER_GPU_ENABLED": "true", "INFER_BATCH_SIZE": "8"}
    settings = load_settings(desk, short).inference
    assert (settings.p99_ms_target, settings.gpu_enabled, settings.batch_size) == (20.0, True, 8)
    both = load_settings(desk, short | {"ASSAY_INFERENCE__BATCH_SIZE": "16"}).inference
    assert both.batch_size == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [("INFER_RUNTIME", "tensorrt"), ("INFER_BATCH_SIZE", "0"), ("INFER_BATCHSIZE", "8"),
     ("INFER_MODEL_WARMUP", "often")],
)  # fmt: skip
def test_a_wrong_short_name_or_value_is_refused_with_its_name(
    desk: Path, name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_settings(desk, {name: value})
