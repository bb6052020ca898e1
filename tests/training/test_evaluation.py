"""Evaluation: every row on the same frames, and no true frame in the model's input."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lost_output import Closed
from sgaps.errors import CheckpointRejected, SgapsError
from sgaps.manifest import DataCard, Metrics
from sgaps.model import CheckpointStore, SparsePixelTransformer, build_model
from sgaps.model.inpaint import on_black
from sgaps.recording import SegmentInfo, find_segments
from sgaps.settings import Settings
from toy_models import publish
from trainer import (
    baselines,
    comparison,
    evaluate,
    measured_frames,
    medians,
    perceptual,
    pictures,
)
from trainer.closed_loop import Loop, play
from trainer.comparison import CLOSED_LOOPS, compare
from trainer.scores import Mean, Scores, gain_db, mean_over, rank_correlation
from training.toy_recordings import HEIGHT, KEY, WIDTH, record, scene, toy_settings

Picture = NDArray[np.uint8]
State = NDArray[np.float32]
NO_STATE = np.empty(0, np.float32)


@pytest.fixture
def toy(tmp_path: Path) -> Settings:
    settings = toy_settings(tmp_path)
    for name in ("a", "bb"):
        record(settings.data.recordings_dir, name, frames=4, samples=0)
    return settings


def trained(settings: Settings) -> SparsePixelTransformer:
    """As if it had been trained: its last layers are not zero."""
    torch.manual_seed(0)
    model = build_model(settings.model).eval()
    torch.nn.init.normal_(model.head.last.weight, std=0.1)
    torch.nn.init.normal_(model.log_error.weight, std=0.1)
    return model


@pytest.fixture
def real_looks() -> None:
    """ST-LPIPS as it is."""


@pytest.fixture(autouse=True)
def _quick_looks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """ST-LPIPS takes longer than everything else together, and few tests look at it."""
    if "real_looks" not in request.fixturenames:
        monkeypatch.setattr(perceptual.PerceptualScore, "distance", lambda *_: 0.5)


@pytest.mark.usefixtures("real_looks")
def test_every_method_is_measured_on_the_same_frames(toy: Settings) -> None:
    report, strips = compare(KEY, toy, frames=3, counts=(30, 60))
    methods = [(row.method, row.samples) for row in report.rows]
    assert len(set(methods)) == len(methods)
    assert {samples for _, samples in methods} == {0, 30, 60}
    assert all((row.frames, row.sessions) == (4, 2) for row in report.rows)
    assert all(row.st_lpips for row in report.rows)
    assert {"median of other sessions", "true frame before", "DCT oracle"} <= {
        m for m, _ in methods
    }
    assert len(report.gains_db) == 2 * (2 + 2 + 3 + 3 + 2) + 2
    adaptive = "model, closed loop: squares, by predicted_error"
    assert f"30 samples, {adaptive} over 60, model, closed loop: points, random" in report.gains_db
    points = "model, closed loop: points, by predicted_error"
    assert [name for name in report.gains_db if name.startswith(f"30 samples, {points}")] == [
        f"30 samples, {points} over model, closed loop: points, {pattern}"
        for pattern in ("random", "jittered_grid")
    ]
    assert set(report.rank_correlations) == {
        f"{count} samples, {guide}"
        for count in (30, 60)
        for guide in ("attention_entropy", "predicted_error")
    }
    assert strips[0].shape == (HEIGHT, 6 * WIDTH)


def test_a_set_stays_for_a_second_frame_where_the_picture_is_good(toy: Settings) -> None:
    """As the sampler behind the gateway has it."""
    truths = [scene(shift) for shift in range(5)]

    def sets(quality_threshold: float, loop: Loop) -> list[bytes]:
        update = toy.mask_update.model_copy(update={"quality_threshold": quality_threshold})
        settings = toy.model_copy(update={"mask_update": update})
        frames = [(truth, NO_STATE) for truth in truths]
        shown = play(trained(toy), frames, loop, settings, session_id="s", sample_count=40)
        return [s.samples[:, [0, 1, 3]].tobytes() for s in shown]

    always = sets(100.0, Loop(guide="predicted_error"))
    assert len(set(always)) == 5
    first, second, third, fourth, fifth = sets(0.0, Loop(guide="predicted_error"))
    assert (second, fourth) == (third, fifth)
    assert len({first, second, fourth}) == 3
    assert len(set(sets(0.0, Loop(guide="nothing", history=False)))) == 5


def test_each_session_has_its_own_luck_and_all_loops_of_it_the_same(toy: Settings) -> None:
    frames = [(scene(0), NO_STATE)]

    def drawn(session_id: str, *, history: bool) -> list[list[float]]:
        loop = Loop(guide="nothing", history=history)
        (shown,) = play(trained(toy), frames, loop, toy, session_id=session_id, sample_count=40)
        coords: list[list[float]] = shown.samples[:, [0, 1, 3]].tolist()
        return coords

    assert drawn("a", history=True) == drawn("a", history=False) != drawn("b", history=True)


def test_the_command_prints_a_table_or_json(
    toy: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CheckpointStore(toy.data.checkpoints_dir)
    overrides = [
        f"data.recordings_dir={toy.data.recordings_dir}",
        f"data.checkpoints_dir={toy.data.checkpoints_dir}",
        f"data.shipped_dir={toy.data.shipped_dir}",
        "model.embed_dim=32",
        "model.num_heads=2",
        "model.ffn_dim=48",
        "model.coarse_channels=[16]",
    ]
    # Settings may stand before, between and after options.
    arguments = [overrides[0], "--key", KEY, "--frames", "3", *overrides[1:], "--samples", "60"]
    picture, curve = tmp_path / "strip.png", tmp_path / "curve.png"
    assert evaluate.main([*arguments, "--picture", str(picture), "--curve", str(curve)]) == 0
    table = capsys.readouterr().out
    assert "| method | samples | bytes | PSNR, dB | SSIM | ST-LPIPS |" in table
    assert "| DCT oracle | 60 | – | " in table
    assert "| linear, points | 60 | 100 + 281 | " in table
    assert picture.stat().st_size > 0
    assert curve.stat().st_size > 0
    assert evaluate.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["key"], report["model_version"]) == (KEY, "untrained")
    assert report["rows"][0]["psnr_db"].keys() == {"value", "interval"}
    assert evaluate.main(["--key", "other", *overrides]) == 1
    assert "make some: sgaps capture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--frames", "x"), ("--frames", "1"), ("--samples", "250,-1")]
)
def test_what_is_no_count_is_told(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--key", KEY, option, value])
    assert (
        f"argument {option}: {value.rsplit(',', maxsplit=1)[-1]!r} is no" in capsys.readouterr().err
    )


@pytest.mark.parametrize("option", ["--picture", "--curve"])
@pytest.mark.parametrize(
    ("name", "status", "cure"),
    [
        ("nofolder/p.png", 1, "there is no folder"),
        ("folder.png", 1, "name another file"),
        ("p", 2, "such as .png"),
        ("p.xyz", 2, "such as .png"),
    ],
)
def test_where_a_picture_cannot_go_is_told_before_anything_is_measured(
    option: str,
    name: str,
    status: int,
    cure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evaluate, "compare", lambda *_, **__: pytest.fail("it was measured"))
    (tmp_path / "folder.png").mkdir()
    try:
        code = evaluate.main(["--key", KEY, option, str(tmp_path / name)])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == status
    assert cure in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--picture", "--curve"])
def test_a_picture_that_could_not_be_written_does_not_cost_the_table(
    option: str,
    toy: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = compare(KEY, toy, frames=2, counts=(60,))
    folder = tmp_path / "pictures"
    folder.mkdir()

    def measured_while_the_folder_goes(*_: object, **__: object) -> object:
        folder.rmdir()
        return measured

    monkeypatch.setattr(evaluate, "compare", measured_while_the_folder_goes)
    assert evaluate.main(["--key", KEY, option, str(folder / "p.png")]) == 1
    told = capsys.readouterr()
    assert "| DCT oracle | 60 | " in told.out
    assert f"{folder / 'p.png'} cannot be written" in told.err


def test_a_table_that_nobody_reads_does_not_cost_the_pictures(
    toy: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = compare(KEY, toy, frames=2, counts=(60,))
    monkeypatch.setattr(evaluate, "compare", lambda *_, **__: measured)
    monkeypatch.setattr(sys, "stdout", Closed())
    picture, curve = tmp_path / "p.png", tmp_path / "c.png"
    with pytest.raises(BrokenPipeError):
        evaluate.main(["--key", KEY, "--picture", str(picture), "--curve", str(curve)])
    assert picture.stat().st_size > 0
    assert curve.stat().st_size > 0


def test_a_wrong_state_is_that_of_another_frame_and_no_state_is_none(toy: Settings) -> None:
    model = trained(toy)
    torch.nn.init.normal_(model.film.weight, std=0.1)
    right, wrong = (Loop(guide="nothing", state=s) for s in ("true", "wrong"))

    def frames(states: list[int]) -> list[tuple[Picture, NDArray[np.float32]]]:
        return [(scene(0), np.array([state], np.float32)) for state in states]

    def played(states: list[int], loop: Loop) -> Picture:
        return next(play(model, frames(states), loop, toy, session_id="s", sample_count=30)).frame

    np.testing.assert_array_equal(played([7, 900], wrong), played([900, 7], right))
    assert (played([7, 900], wrong) != played([7, 900], right)).any()
    none = Loop(guide="nothing", state="no")
    np.testing.assert_array_equal(played([7, 900], none), played([900, 7], none))
    assert (played([7, 900], none) != played([7, 900], right)).any()


def test_strips_of_several_games_stand_below_one_another() -> None:
    wide, narrow = np.full((2, 5), 7, np.uint8), np.full((3, 4), 9, np.uint8)
    together = pictures.stacked([wide, narrow])
    assert together.shape == (5, 5)
    np.testing.assert_array_equal(together[:2], wide)
    np.testing.assert_array_equal(together[2:, :4], narrow)
    assert not together[2:, 4:].any()


def test_sessions_too_short_or_damaged_do_not_cost_the_others(
    toy: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    recordings = toy.data.recordings_dir
    whole, _ = compare(KEY, toy, frames=3)
    record(recordings, "alone", frames=1)
    record(recordings, "broken", frames=3, broken=(1,))
    report, _ = compare(KEY, toy, frames=3)
    assert [row.sessions for row in report.rows] == [row.sessions for row in whole.rows]
    assert "2 sessions have fewer than two frames and are left out" in caplog.text
    assert "measured up to here" in caplog.text


def test_a_session_with_a_hole_is_left_out(toy: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Its whole segments are no session: between them nothing is known."""
    folder = toy.data.recordings_dir / KEY / "holed"
    for number, whole in ((2, True), (1, False), (0, True)):
        record(toy.data.recordings_dir, "holed", frames=3, samples=0, keyframes=whole)
        if number:
            (folder / "000000.h5").rename(folder / f"{number:06d}.h5")
    found = measured_frames.frames_to_measure(KEY, toy, frozenset(), count=9)
    assert found.keys() == {"a", "bb"}
    assert "1 sessions have frames that did not come whole and are left out, holed" in caplog.text
    shutil.rmtree(toy.data.recordings_dir / KEY / "a")
    shutil.rmtree(toy.data.recordings_dir / KEY / "bb")
    with pytest.raises(SgapsError, match="no sessions of whole frames"):
        measured_frames.frames_to_measure(KEY, toy, frozenset(), count=9)


def test_a_checkpoint_is_measured_where_it_would_be_trained(
    toy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = toy.training.model_copy(update={"device": "cuda"})
    with pytest.raises(SgapsError, match="torch sees no GPU"):
        compare(KEY, toy.model_copy(update={"training": training}), frames=2, counts=(30,))
    devices: list[str] = []

    def table(_: Settings, model: nn.Module, *__: object, prior: nn.Module) -> None:
        devices.extend(next(each.parameters()).device.type for each in (model, prior))
        raise SgapsError("it is seen")

    monkeypatch.setattr(comparison, "_Table", table)
    monkeypatch.setattr(comparison, "pick_device", lambda _: torch.device("meta"))
    with pytest.raises(SgapsError, match="it is seen"):
        compare(KEY, toy, frames=2, counts=(30,))
    assert devices == ["meta", "meta"]


def test_what_a_checkpoint_was_chosen_by_is_told(
    toy: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    version = published(toy, "elsewhere", val_sessions=("bb", "gone"))
    compare(KEY, toy, frames=2, counts=(30,))
    assert f"{version} was chosen by how good it is on bb" in caplog.messages


def test_what_is_named_twice_is_measured_once(toy: Settings, tmp_path: Path) -> None:
    def found(*test: Path) -> dict[str, int]:
        data = toy.data.model_copy(update={"test": test})
        settings = toy.model_copy(update={"data": data})
        frames = measured_frames.frames_to_measure(KEY, settings, frozenset(), count=100)
        return {name: len(played) for name, played in frames.items()}

    folder = toy.data.recordings_dir
    once = found(folder)
    files = [segment.path for segment in find_segments(folder)]
    (tmp_path / "link").symlink_to(folder)
    assert found(folder, *files, tmp_path / "link") == once
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(SgapsError, match=r"session \w+ is in .*: name one of them in data\.test"):
        found(folder, tmp_path / "copy")


def test_a_frame_alone_is_refused_and_more_samples_than_pixels_are_all(toy: Settings) -> None:
    with pytest.raises(SgapsError, match="two frames"):
        compare(KEY, toy, frames=1)
    report, _ = compare(KEY, toy, frames=2, counts=(10**6,))
    assert {row.samples for row in report.rows} == {0, WIDTH * HEIGHT}


def test_sessions_of_several_sizes_are_measured_with_the_same_counts_each_once(
    toy: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = measured_frames._frames

    def smaller(
        segments: Sequence[SegmentInfo], count: int, sentinel: float
    ) -> list[tuple[Picture, State]]:
        found = whole(segments, count, sentinel)
        is_cut = segments[0].session_id == "bb"
        return [(truth[:16, :16], state) for truth, state in found] if is_cut else list(found)

    monkeypatch.setattr(measured_frames, "_frames", smaller)
    report, _ = compare(KEY, toy, frames=2, counts=(60, 300, 1000, 60))
    assert {row.samples for row in report.rows} == {0, 60, 256}
    assert {row.frames for row in report.rows if row.samples} == {2}
    assert "the smallest frame has 256 pixels" in caplog.text


def test_no_more_samples_are_measured_than_a_message_takes() -> None:
    large = [(np.zeros((300, 300), np.uint8), NO_STATE)]
    assert measured_frames.possible_counts((500, 90_000), [large]) == [500, 65_535]


def test_every_row_tells_what_goes_over_the_wire(
    toy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/protocol.md has it: one state value, 60 samples, the version `untrained`.

    And x264 has as many bytes; of what it took the first frame, which is not scored, is no part.
    """
    asked: list[float] = []
    coded: list[tuple[list[Picture], list[int]]] = []

    def watched(truths: Sequence[Picture], bytes_per_frame: float) -> object:
        asked.append(bytes_per_frame)
        coded.append(baselines.x264(truths, bytes_per_frame))
        return coded[-1]

    monkeypatch.setattr(comparison, "x264", watched)
    report, _ = compare(KEY, toy, frames=3, counts=(60,))
    told = {row.method: (row.bytes_up, row.bytes_down) for row in report.rows}
    up, points, squares = 36 + 4 + 60, 32 + 60 * 4 + 9, 32 + 60 * 5 + 9
    for method, (sent, heard) in told.items():
        if "points" in method or "squares" in method:
            without_state = up - 4 if method.endswith("no state") else up
            assert (sent, heard) == (without_state, points if "points" in method else squares)
    assert asked == [up, up]
    sizes_bytes = np.concatenate([sizes[1:] for _, sizes in coded])
    assert told["x264, as many bytes"] == (sizes_bytes.mean(), 0)
    for method in ("median of other sessions", "true frame before", "DCT oracle"):
        assert told[method] == (None, None)


def test_of_a_session_resumed_in_another_resolution_the_longest_part_is_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = toy_settings(tmp_path)
    record(settings.data.recordings_dir, "a", frames=5, samples=0, half_from=3)
    report, _ = compare(KEY, settings, frames=5, counts=(60,))
    assert {row.frames for row in report.rows} == {2}
    assert "session a changes its resolution: of its 5 frames 3 are measured" in caplog.text


def test_one_sample_can_be_measured(toy: Settings) -> None:
    report, _ = compare(KEY, toy, frames=2, counts=(1,))
    assert {row.samples for row in report.rows} == {0, 1}


def test_without_the_weights_the_column_of_looks_is_empty(
    toy: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, perceptual.PACKAGE, None)
    report, _ = compare(KEY, toy, frames=2, counts=(60,))
    assert not any(row.st_lpips for row in report.rows)
    lines = evaluate.told(report).splitlines()
    assert sum(line.endswith("| – |") for line in lines) == len(report.rows)


def test_only_some_frames_are_looked_at_the_last_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_settings(tmp_path)
    record(settings.data.recordings_dir, "a", frames=4)
    looked_at: list[Picture] = []

    def distance(self: perceptual.PerceptualScore, frame: Picture, truth: Picture) -> float:
        looked_at.append(truth)
        return 1.0

    monkeypatch.setattr(perceptual.PerceptualScore, "distance", distance)
    monkeypatch.setattr(comparison, "PERCEPTUAL_INTERVAL", 2)
    report, _ = compare(KEY, settings, frames=4, counts=(60,))
    assert len(looked_at) == 2 * len(report.rows)
    np.testing.assert_array_equal(looked_at[:2], [scene(1), scene(3)])
    assert report.rows[0].st_lpips == Mean(value=1.0, interval=None)


def test_sessions_without_whole_frames_are_refused(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    record(settings.data.recordings_dir, "a", frames=4, keyframes=False)
    with pytest.raises(SgapsError, match="whole frames"):
        compare(KEY, settings, frames=3)


@pytest.mark.parametrize("loop", CLOSED_LOOPS, ids=lambda loop: loop.name)
def test_pixels_that_were_not_sampled_change_nothing_in_a_loop(tmp_path: Path, loop: Loop) -> None:
    """The second frame of a session, and with it what the loop asked for."""
    settings = toy_settings(tmp_path)
    model = trained(settings)
    truths = [scene(shift) for shift in range(2)]
    one, two = play(
        model, [(t, NO_STATE) for t in truths], loop, settings, session_id="s", sample_count=40
    )
    # Mirrored inside its square, a picture keeps the mean of the square.
    mirrored = [truth.copy() for truth in truths]
    for truth, shown in zip(mirrored, (one, two), strict=True):
        points = shown.samples[shown.samples[:, 3] == 1]
        _, is_point = on_black(points, WIDTH, HEIGHT)
        for u, v, _, side in shown.samples:
            left, top, n = round(u * WIDTH - side / 2), round(v * HEIGHT - side / 2), int(side)
            square = truth[top : top + n, left : left + n]
            if is_point[top : top + n, left : left + n].any():
                continue  # a point of its own lies in the square
            truth[top : top + n, left : left + n] = square[::-1, ::-1]
    if not loop.footprints:  # points: whatever was not sampled
        for truth, original, shown in zip(mirrored, truths, (one, two), strict=True):
            _, known = on_black(shown.samples, WIDTH, HEIGHT)
            truth[:] = np.where(known, original, 255 - original)
    assert any((a != b).any() for a, b in zip(mirrored, truths, strict=True))
    again = list(
        play(
            model,
            [(t, NO_STATE) for t in mirrored],
            loop,
            settings,
            session_id="s",
            sample_count=40,
        )
    )
    for before, after in zip((one, two), again, strict=True):
        np.testing.assert_array_equal(before.frame, after.frame)


def test_a_loop_without_history_forgets(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    frames = [(scene(shift), NO_STATE) for shift in (0, 3)]
    model = trained(settings)

    def last(history: bool) -> Picture:
        loop = Loop(guide="nothing", history=history)
        return list(play(model, frames, loop, settings, session_id="s", sample_count=40))[-1].frame

    assert (last(history=True) != last(history=False)).any()


def test_an_oracle_with_all_coefficients_is_the_truth() -> None:
    np.testing.assert_array_equal(baselines.dct_oracle(scene(2), WIDTH * HEIGHT), scene(2))
    few = baselines.dct_oracle(scene(2), 5).astype(float)
    assert 0 < np.abs(few - scene(2)).mean() < np.abs(scene(2).mean() - scene(2)).mean()


def test_a_codec_shows_every_frame_in_its_bytes() -> None:
    """Those after the first, which takes what it needs."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (12, 8, 8)).astype(np.uint8)
    truths = list(blocks.repeat(8, axis=1).repeat(8, axis=2))
    (rich, rich_bytes), (poor, poor_bytes) = (baselines.x264(truths, size) for size in (200, 60))
    assert {len(each) for each in (rich, rich_bytes, poor, poor_bytes)} == {12}
    assert np.mean(rich_bytes[1:]) == pytest.approx(200, rel=0.1)
    assert np.mean(poor_bytes[1:]) == pytest.approx(60, rel=0.1)

    def error(shown: list[Picture]) -> float:
        return float(np.abs(np.array(shown, float) - truths)[6:].mean())

    assert error(rich) < 0.5 * error(poor)


def test_a_codec_that_cannot_take_so_few_bytes_or_so_many_tells_what_it_took() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64)).astype(np.uint8)
    _, sizes_bytes = baselines.x264(list(noise), 1)
    assert np.mean(sizes_bytes[1:]) > 1
    shown, sizes_bytes = baselines.x264([scene(0)] * 4, 10**5)
    assert np.mean(sizes_bytes[1:]) < 10**5
    assert np.abs(np.array(shown, float) - scene(0)).max() <= 1


def test_linear_interpolation_is_exact_on_a_slope() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    slope = (2 * x + 3 * y).astype(np.uint8)
    at = np.array([(0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (WIDTH - 1, HEIGHT - 1)])
    uv = (at + 0.5) / [WIDTH, HEIGHT]
    samples = np.column_stack([uv, slope[at[:, 1], at[:, 0]] / 255, np.ones(4)])
    np.testing.assert_allclose(
        baselines.linear(samples.astype(np.float32), WIDTH, HEIGHT), slope, atol=1
    )


@pytest.mark.parametrize(("width", "height"), [(WIDTH, 1), (1, HEIGHT)])
def test_interpolation_in_a_picture_one_pixel_wide_or_high_is_the_nearest_sample(
    width: int, height: int
) -> None:
    samples = np.array([[0.5, 0.5, 1, 1]] * 4, np.float32)
    samples[:, int(width == 1)] = [0.1, 0.3, 0.6, 0.9]
    samples[0, 2] = 0
    rebuilt = baselines.linear(samples, width, height)
    dark = max(width, height) // 5
    assert rebuilt.shape == (height, width)
    assert not rebuilt.ravel()[:dark].any()
    assert (rebuilt.ravel()[dark + 1 :] == 255).all()


@pytest.mark.parametrize("lengths", [(1, 2, 4), (3, 3, 2), (1, 1)])
def test_a_median_is_that_of_all_frames_of_all_other_sessions_of_one_size(
    lengths: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medians, "BAND_PIXELS", 7)
    rng = np.random.default_rng(0)
    frames = {
        str(number): rng.integers(0, 256, (length, 3, 5), np.uint8)
        for number, length in enumerate(lengths)
    }
    sessions = {name: [(truth, NO_STATE) for truth in truths] for name, truths in frames.items()}
    sessions["of another size"] = [(np.zeros((5, 3), np.uint8), NO_STATE)]
    found = medians.medians_of_others(sessions)
    assert found.pop("of another size") is None
    for name, median in found.items():
        others = [truths for other, truths in frames.items() if other != name]
        expected = np.median(np.concatenate(others), axis=0).astype(np.uint8)
        np.testing.assert_array_equal(median, expected)


def test_medians_take_no_longer_for_each_session_the_more_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[Picture] = []
    count = medians._counts

    def counting(truths: Sequence[Picture], band: slice) -> medians.Counts:
        counted.extend(truths)
        return count(truths, band)

    monkeypatch.setattr(medians, "_counts", counting)
    medians.medians_of_others({str(i): [(scene(i), NO_STATE)] * 3 for i in range(10)})
    assert len(counted) == 2 * 3 * 10


def test_scores_are_means_of_sessions_and_gains_are_paired() -> None:
    truth = np.zeros((8, 8), np.uint8)
    good, bad = Scores("good", samples=1), Scores("bad", samples=1)
    for session, level, frames in (("a", 10, 1), ("b", 20, 3)):
        for _ in range(frames):
            good.add(session, np.full_like(truth, level), truth)
            bad.add(session, np.full_like(truth, 2 * level), truth)
    row = good.row()
    expected = np.mean([20 * np.log10(255 / 10), 20 * np.log10(255 / 20)])
    assert row.psnr_db.value == pytest.approx(expected)
    assert (row.frames, row.sessions) == (4, 2)
    assert row.psnr_db.interval is not None
    assert row.psnr_db.interval > 1
    gain = gain_db(good, bad)
    assert gain.value == pytest.approx(20 * np.log10(2))
    assert gain.interval == pytest.approx(0, abs=1e-9)


def test_one_session_has_no_interval_in_the_table_nor_in_the_curve(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    record(settings.data.recordings_dir, "a", frames=4, samples=0)
    assert mean_over([3.0]) == Mean(value=3.0, interval=None)
    report, _ = compare(KEY, settings, frames=2, counts=(30, 60))
    table = evaluate.told(report)
    assert "± –" in table
    assert "± 0" not in table
    assert all(gain.interval is None for gain in report.gains_db.values())
    evaluate.efficiency_curve(report).savefig(tmp_path / "curve.png")


def test_a_row_of_fewer_frames_than_others_says_so(tmp_path: Path) -> None:
    settings = toy_settings(tmp_path)
    record(settings.data.recordings_dir, "a", frames=4, samples=0)
    report, _ = compare(KEY, settings, frames=3, counts=(60,))
    few, *rest = report.rows
    shown = evaluate.told(replace(report, rows=(replace(few, frames=1), *rest)))
    assert f"| {few.method} (1 frames of 1 sessions) |" in shown
    assert shown.count("frames of") == 2  # once above the table


def test_pictures_that_are_too_small_for_ssim_have_none() -> None:
    scores = Scores("tiny", samples=1)
    scores.add("a", np.zeros((6, 40), np.uint8), np.ones((6, 40), np.uint8))
    row = scores.row()
    assert (row.ssim, row.frames) == (None, 1)


def test_the_rank_correlation_of_the_error_itself_is_one() -> None:
    rng = np.random.default_rng(0)
    truth, frame = (rng.integers(0, 256, (16, 16)).astype(np.uint8) for _ in range(2))
    squared = np.square((frame.astype(float) - truth) / 255)
    cells = squared.reshape(4, 4, 4, 4).mean(axis=(1, 3)).astype(np.float32)
    assert rank_correlation(cells, frame, truth) == pytest.approx(1)
    assert rank_correlation(-cells, frame, truth) == pytest.approx(-1)


def published(
    settings: Settings,
    *train_sessions: str,
    model: SparsePixelTransformer | None = None,
    parent: str | None = None,
    val_sessions: tuple[str, ...] = (),
) -> str:
    manifest = CheckpointStore(settings.data.checkpoints_dir).publish(
        KEY,
        model or trained(settings),
        settings=settings.model,
        metrics=Metrics(val_psnr_db=21.0, champion_psnr_db=20.0),
        parent=parent,
        data=DataCard(frames=4, train_sessions=train_sessions, val_sessions=val_sessions),
        training={},
    )
    return manifest.model_version


def test_sessions_that_were_trained_on_are_left_out_unless_named(
    toy: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    version = published(toy, "a")
    report, _ = compare(KEY, toy, frames=2, counts=(30,))
    assert report.model_version == version
    assert {row.sessions for row in report.rows} == {1}
    published(toy, "elsewhere", parent=version)  # its weights still know it
    report, _ = compare(KEY, toy, frames=2, counts=(30,))
    assert {row.sessions for row in report.rows} == {1}
    data = toy.data.model_copy(update={"test": (toy.data.recordings_dir,)})
    named, _ = compare(KEY, toy.model_copy(update={"data": data}), frames=2, counts=(30,))
    assert {row.sessions for row in named.rows} == {2}
    assert "was trained on a" in caplog.text
    file = next(s.path for s in find_segments(toy.data.recordings_dir) if s.session_id == "bb")
    data = toy.data.model_copy(update={"test": (file,)})
    named, _ = compare(KEY, toy.model_copy(update={"data": data}), frames=2, counts=(30,))
    assert {row.sessions for row in named.rows} == {1}
    published(toy, "a", "bb")
    with pytest.raises(SgapsError, match=r"data\.test="):
        compare(KEY, toy, frames=2, counts=(30,))


def test_what_a_client_is_told_is_measured_against_the_truth(toy: Settings) -> None:
    def told(more_log_error: float) -> tuple[dict[str, float], float]:
        """And the true PSNR."""
        model = trained(toy)
        with torch.no_grad():
            model.log_error.bias.add_(more_log_error)
        published(toy, model=model)
        report, _ = compare(KEY, toy, frames=3, counts=(30,))
        means = {name: mean.value for name, mean in report.told_psnr_db.items()}
        served = "model, closed loop: squares, by predicted_error"
        true = {row.method: row.psnr_db.value for row in report.rows}
        return means, true[served]

    above, distance = "30 samples, told minus true", "30 samples, distance"
    (sure, _), (unsure, true) = told(-10), told(10)  # in nats of the error: 87 dB either way
    assert sure[above] == pytest.approx(sure[distance])
    assert unsure[above] == pytest.approx(-unsure[distance])
    assert sure[above] > 50
    assert unsure[above] == pytest.approx(-true)  # it is told 0 dB, for nothing is worse


def test_a_model_that_is_untrained_tells_nothing(toy: Settings) -> None:
    report, _ = compare(KEY, toy, frames=2, counts=(30,))
    assert (report.model_version, report.told_psnr_db) == ("untrained", {})
    assert "told against" not in evaluate.told(report)


def test_a_checkpoint_for_color_is_measured_on_no_gray_recordings(toy: Settings) -> None:
    publish(toy.data.checkpoints_dir, KEY, color_channels=3)
    with pytest.raises(CheckpointRejected, match="for frames in color"):
        compare(KEY, toy, frames=2, counts=(30,))


def test_a_checkpoint_is_measured_in_its_own_shape(toy: Settings) -> None:
    published(toy)
    other = toy.model_copy(
        update={
            "model": toy.model.model_copy(
                update={"history_frames": 0, "attended_frames": 0, "max_state_dim": 5}
            )
        }
    )

    def model_psnr_db(settings: Settings) -> list[float]:
        report, _ = compare(KEY, settings, frames=3, counts=(30,))
        return [r.psnr_db.value for r in report.rows if r.method.startswith("model")]

    assert model_psnr_db(other) == model_psnr_db(toy)
