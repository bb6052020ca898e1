"""Settings: composed by Hydra, checked by pydantic, and every mistake named."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from sgaps.errors import SettingsError
from sgaps.settings import Settings, load_settings, override


def test_the_original_keys_have_their_defaults(settings: Settings) -> None:
    assert settings.max_state_dim == 64
    assert settings.sentinel_value == -999.0
    assert settings.target_fps == 10
    assert settings.sampling.default_sample_count == 500
    assert settings.sampling.importance_share == 0.6
    training = settings.training
    assert (training.learning_rate, training.weight_decay) == (1e-4, 1e-5)
    assert (training.max_epochs, training.warmup_epochs) == (100, 10)
    assert (training.batch_size, training.accumulation_steps) == (16, 1)
    phases = [(phase.samples, phase.epochs) for phase in training.curriculum]
    assert phases == [((1000,), 30), ((500,), 40), ((250,), 30)]
    assert settings.loss.sampled == 1
    assert (settings.importance.method, settings.importance.epsilon) == ("attention_entropy", 1e-9)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("server.prt=1", "server.prt"),
        ("nope.x=1", "nope.x"),
        ("server.port=abc", "server.port"),
        ("server.port=70000", "server.port"),
        ("sampling.pattern=hexagonal", "sampling.pattern"),
        ("sampling.importance_share=1.9", "importance_share"),
        ("mask_update.strategy=never", "mask_update.strategy"),
        ("model.num_heads=7", "embed_dim"),
        ("model.refine_channels=1", "model.refine_channels"),
        ("bus.block_secs=3", "bus.block_secs"),
        ("target_fps=.nan", "target_fps"),
        ("target_fps=20000", "target_fps"),
        ("target_fps=0.001", "target_fps"),
        ("model=unknown", "model/unknown'; there is default, original"),
        ("model.history_frames=9", "server.history_frames"),
        ("training.seed=-1", "training.seed"),
        ("sampling.seed=-1", "sampling.seed"),
        ("max_state_dim=4097", "max_state_dim"),  # more than the protocol can tell
        ("server.max_samples=65536", "server.max_samples"),
    ],
)
def test_a_wrong_key_or_value_is_named(override: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings([override], environment={})


def test_no_more_frames_are_asked_for_than_are_taken() -> None:
    loaded = load_settings(["target_fps=120", "server.max_frame_rate=60"], environment={})
    assert loaded.asked_fps == 60
    assert load_settings(environment={}).asked_fps == 10


def test_everything_can_be_set_by_environment_and_overrides_win() -> None:
    environment = {"SGAPS__SERVER__PORT": "9000", "SGAPS__TARGET_FPS": "5", "HOME": "x"}
    assert load_settings(environment=environment).server.port == 9000
    loaded = load_settings(["target_fps=20"], environment=environment)
    assert (loaded.server.port, loaded.target_fps) == (9000, 20)


def test_a_wrong_environment_variable_is_named() -> None:
    with pytest.raises(SettingsError, match=r"server\.prt"):
        load_settings(environment={"SGAPS__SERVER__PRT": "1"})


def test_a_layout_of_a_key_goes_before_one_of_many() -> None:
    own = "{values: [4, 3, 2, 1], nearest: 7}"
    atlas = load_settings([f"+atlas.layouts.doom-mine={own}"], environment={}).atlas
    for name in ("ATLAS__LAYOUTS__DOOM-MINE", "+ATLAS__LAYOUTS__DOOM-MINE"):
        assert load_settings(environment={f"SGAPS__{name}": own}).atlas == atlas
    mine, others = atlas.layout_of("doom-mine"), atlas.layout_of("doom-deathmatch")
    assert mine is not None
    assert others is not None
    assert (mine.nearest, mine == others) == (7, False)
    assert atlas.layout_of("my-game") is None


def test_a_layout_from_the_environment_is_of_the_key_as_it_is_written() -> None:
    layout = "{values: [0, 1, 2, 3], nearest: 0.5}"
    for variables in (
        {"SGAPS__ATLAS__LAYOUTS__MyGame": layout},
        {"SGAPS__ATLAS__LAYOUTS": f"{{MyGame: {layout}}}"},
        {
            "SGAPS__ATLAS__LAYOUTS__MyGame__VALUES": "[0, 1, 2, 3]",
            "SGAPS__ATLAS__LAYOUTS__MyGame__NEAREST": "0.5",
        },
    ):
        atlas = load_settings(environment=variables).atlas
        assert atlas.layout_of("MyGame") is not None
        assert atlas.layout_of("mygame") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("server.allowed_origins", origin)
            for origin in (
                "https://game.example/",
                "game.example",
                "https://Game.example",
                "*",
                "",
                "https://game.example:443",
                "https://me@game.example",
                "https://game.example/play",
                "https://game.example?x",
                "https://game.example:99999",
            )
        ),
        *(("server.trusted_proxies", proxy) for proxy in ("proxy", "10.0.0.0/33", "172.16.0.1/12")),
    ],
)
def test_what_would_never_be_met_is_no_origin_and_no_proxy(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"{re.escape(key)}\.0: .*{re.escape(value)}"):
        load_settings([f"{key}=['{value}']"], environment={})


def test_origins_and_proxies_are_written_as_they_are_met() -> None:
    origins = ("https://game.example", "http://[::1]:8080", "null", "app://game")
    proxies = ("127.0.0.1", "172.16.0.0/12", "fd00::/8", "*")
    quoted = {
        key: ",".join(f"'{v}'" for v in values)
        for key, values in (("allowed_origins", origins), ("trusted_proxies", proxies))
    }
    server = load_settings([f"server.{k}=[{v}]" for k, v in quoted.items()], environment={}).server
    assert (server.allowed_origins, server.trusted_proxies) == (origins, proxies)


def test_settings_cannot_be_changed(settings: Settings) -> None:
    with pytest.raises(ValidationError):
        settings.server.port = 1


def test_a_missing_conf_folder_is_said_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SGAPS_CONF_DIR"):
        load_settings(conf_dir=tmp_path)


def test_a_conf_folder_that_cannot_be_read_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a checkout under `umask 077`, for another user; root may read everything."""

    def refused(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(SettingsError, match=f"Permission denied; chmod -R a.rX {tmp_path}"):
        load_settings(conf_dir=tmp_path, environment={})


@pytest.mark.parametrize(
    "override",
    [
        "server.auth_token=hush hush{",
        "server.auth_token=[hush]",
        "server.auth_token='${hush}'",
        "server.auth_token=${oc.env:hush}",
        "server.auth_tokn=hush",
        "bus.socket_timeout_secs=1",
        "hush",
    ],
)
def test_no_mistake_shows_a_secret(override: str) -> None:
    environment = {"SGAPS__BUS__URL": "redis://:hush@127.0.0.1:6379/0"}
    with pytest.raises(SettingsError) as caught:
        load_settings([override], environment=environment)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "/home/Jürgen (copy)/it's, a=b/~x",
        "~x",
        'a "b" [c] {d}: #e',
        "null",
        " 12 ",
        "a\\",
        "a\\'b",
        "${oc.env:HOME}",
        "a\\${b}'c",
        "redis://:p=w,${x}'@h:1/0?db=1",
    ],
)
def test_a_text_is_set_as_it_is(text: str) -> None:
    assert load_settings([override("bus.url", text)], environment={}).bus.url == text


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["bus.tls_ca_file=/ca.pem"], "rediss://"),
        (["bus.url=rediss://h:1/0", "bus.tls_key_file=/key.pem"], "go together"),
    ],
)
def test_tls_files_that_would_do_nothing_are_refused(overrides: list[str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(overrides, environment={})


@pytest.mark.parametrize("folder", ["data/recordings", "data/../data/recordings", "link"])
def test_recordings_and_checkpoints_in_one_folder_are_refused(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training run would wait for itself: it locks a key's recordings, then its checkpoints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("data/recordings")
    overrides = ["data.recordings_dir=data/recordings", f"data.checkpoints_dir={folder}"]
    with pytest.raises(SettingsError, match="recordings_dir and checkpoints_dir"):
        load_settings(overrides, environment={})


def test_a_folder_that_is_a_link_to_itself_is_no_matter_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to("data")
    assert load_settings([], environment={}).data.recordings_dir == Path("data/recordings")


def test_a_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    with pytest.raises(SettingsError, match="the folder that you are in is gone"):
        load_settings(environment={})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bus.max_backlog_secs", "1e308"),
        ("bus.min_idle_secs", "1e308"),
        ("reconstructor.cpu_threads", "1000000"),
        ("training.cpu_threads", "1025"),
    ],
)
def test_what_a_service_would_die_of_is_refused_before(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"{re.escape(key)}: .*less than or equal to"):
        load_settings([f"{key}={value}"], environment={})
