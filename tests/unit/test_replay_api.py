"""What the page of `sgaps replay` asks over HTTP, on recordings written by the real writer."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from reconstructor.frame import FrameInput
from reconstructor.neural import NeuralReconstructor
from replays import HEIGHT, KEY, SAMPLES, WIDTH, captured, record, scene, served
from sgaps.checkpoints import DEFAULT_KEY, UNTRAINED
from sgaps.model import stores_of
from sgaps.protocol.views import View, decode_view, unpack_samples
from sgaps.recording import SegmentInfo
from sgaps.settings import Settings, load_settings
from sgaps.whole_frames import picture_psnr_db
from sgaps_cli import recordings_folder
from sgaps_cli.replay import library, rebuild
from sgaps_cli.replay.app import create_app
from sgaps_cli.replay.desk import Desk, require_recordings
from sgaps_client.pictures import decoded_png, encoded_png
from toy_models import publish

FRAMES = 8
SESSION, CAPTURE = f"{KEY}/session", f"{KEY}/capture"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The shipped checkpoint, and none of one's own."""
    return load_settings([f"data.checkpoints_dir={tmp_path / 'own'}"], environment={})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    record(folder, "session", map(served, range(FRAMES // 2)))
    record(folder, "session", map(served, range(FRAMES // 2, FRAMES)))
    record(folder, "capture", map(captured, range(3)))
    return folder


@pytest_asyncio.fixture
async def http(root: Path, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Desk(root, settings))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8010"
        ) as client,
    ):
        yield client


async def shipped(http: httpx.AsyncClient) -> str:
    listed = (await http.get("/api/catalog")).json()
    ids = [str(one["checkpoint_id"]) for one in listed["checkpoints"]]
    (for_all,) = (one for one in ids if one.startswith(f"shipped/{DEFAULT_KEY}/"))
    return for_all


async def view(http: httpx.AsyncClient, recording: str, position: int, checkpoint: str) -> View:
    reply = await http.get(
        "/api/frame",
        params={"recording": recording, "position": position, "checkpoint": checkpoint},
    )
    assert reply.status_code == 200, reply.text
    return decode_view(reply.content)


async def test_the_catalog_tells_what_there_is(http: httpx.AsyncClient, root: Path) -> None:
    listed = (await http.get("/api/catalog")).json()
    assert listed["folder"] == str(root)
    recordings = {one["recording_id"]: one for one in listed["recordings"]}
    assert set(recordings) == {SESSION, CAPTURE}
    session = recordings[SESSION]
    assert (session["frames"], session["keyframes"], session["damaged"]) == (FRAMES, 3, 0)
    checkpoints = [one["checkpoint_id"] for one in listed["checkpoints"]]
    assert session["pair"] == [await shipped(http), UNTRAINED]
    assert set(session["pair"]) < set(checkpoints)


async def test_recordings_are_looked_through_when_the_page_asks_for_them(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thousands each look takes long; that there is one is seen at the first."""
    looked: list[Path] = []

    def sealed_segments(session: Path) -> tuple[list[SegmentInfo], int]:
        looked.append(session)
        return recordings_folder.sealed_segments(session)

    monkeypatch.setattr(library, "sealed_segments", sealed_segments)
    require_recordings(root)
    app = create_app(Desk(root, settings))
    async with app.router.lifespan_context(app):
        assert len(looked) == 1


async def test_a_recording_tells_its_frames_and_their_times(http: httpx.AsyncClient) -> None:
    session = (await http.get("/api/recording", params={"recording": SESSION})).json()
    assert session["frame_ids"] == list(range(FRAMES))
    assert session["times_secs"] == pytest.approx([i / 10 for i in range(FRAMES)], abs=1e-3)
    assert (session["keyframes"], session["unsampled"]) == ([0, 3, 6], [])
    capture = (await http.get("/api/recording", params={"recording": CAPTURE})).json()
    assert (capture["keyframes"], capture["unsampled"]) == ([0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize("position", [0, 3, 6])
async def test_a_frame_is_rebuilt_as_it_was_served(
    position: int, http: httpx.AsyncClient, settings: Settings
) -> None:
    """By the reconstructor's own code, from the frame and its past over the segments' border."""
    history = tuple((age, served(position - age).samples) for age in range(1, position + 1))
    frame = served(position)
    (expected,) = NeuralReconstructor(stores_of(settings.data), settings).reconstruct(
        [
            FrameInput(
                checkpoint_key=KEY,
                samples=frame.samples,
                state=frame.state,
                width=WIDTH,
                height=HEIGHT,
                history=history,
            )
        ]
    )
    replayed = await view(http, SESSION, position, await shipped(http))
    image = decoded_png(replayed.reconstruction)
    assert np.abs(image.astype(int) - expected.image).max() <= 1  # of rounding
    header = replayed.header
    assert header.model_version == expected.model_version
    assert header.predicted_psnr == pytest.approx(expected.predicted_psnr_db, abs=1e-3)
    assert header.measured_psnr == pytest.approx(picture_psnr_db(image, scene(position)))
    assert header.state == [position, None]
    assert replayed.true_frame == encoded_png(scene(position))
    np.testing.assert_allclose(unpack_samples(replayed.samples), frame.samples, atol=1e-5)
    assert header.importance is not None
    assert expected.log_error is not None
    bright = np.frombuffer(replayed.importance, np.uint8).reshape(expected.log_error.shape)
    as_painted = np.clip(np.exp(expected.log_error) * 4 * 255, 0, 255)
    assert np.abs(bright - as_painted).max() < 2


async def test_the_past_matters(http: httpx.AsyncClient, root: Path) -> None:
    """The same frame without its past is another picture, or the test above shows nothing."""
    record(root, "alone", [served(6)])
    checkpoint = await shipped(http)
    with_past = await view(http, SESSION, 6, checkpoint)
    alone = await view(http, f"{KEY}/alone", 0, checkpoint)
    assert with_past.samples == alone.samples
    assert with_past.reconstruction != alone.reconstruction


async def test_two_checkpoints_differ_and_interpolation_expects_nothing(
    http: httpx.AsyncClient,
) -> None:
    ours = await view(http, SESSION, 3, await shipped(http))
    prior = await view(http, SESSION, 3, UNTRAINED)
    assert ours.reconstruction != prior.reconstruction
    assert ours.samples == prior.samples
    assert prior.header.predicted_psnr is None
    assert prior.importance == b""


async def test_a_frame_without_truth_has_no_measured_psnr(http: httpx.AsyncClient) -> None:
    replayed = await view(http, SESSION, 4, await shipped(http))
    assert replayed.true_frame == b""
    assert replayed.header.measured_psnr is None
    assert replayed.header.predicted_psnr is not None


async def test_a_captured_frame_is_sampled_now_always_alike(http: httpx.AsyncClient) -> None:
    ours = await view(http, CAPTURE, 2, await shipped(http))
    prior = await view(http, CAPTURE, 2, UNTRAINED)
    assert len(unpack_samples(ours.samples)) == 500
    assert ours.samples == prior.samples
    before = await view(http, CAPTURE, 1, UNTRAINED)
    assert before.samples != prior.samples


async def test_a_score_is_the_psnr_of_the_frame(http: httpx.AsyncClient) -> None:
    place: dict[str, Any] = {"recording": SESSION, "position": 3, "checkpoint": UNTRAINED}
    score = (await http.get("/api/score", params=place)).json()["psnr_db"]
    assert score == pytest.approx((await view(http, SESSION, 3, UNTRAINED)).header.measured_psnr)
    nothing = await http.get("/api/score", params=place | {"position": 4})
    assert nothing.json() == {"psnr_db": None}


@pytest.mark.parametrize(
    ("changes", "status", "kind", "told"),
    [
        ({"recording": "../../etc/passwd"}, 404, "NotListed", "load the page again"),
        ({"recording": ""}, 404, "NotListed", "load the page again"),
        ({"checkpoint": "own/../../x"}, 404, "NotListed", "load the page again"),
        ({"position": FRAMES}, 404, "NotListed", f"frames 0 to {FRAMES - 1}"),
        ({"position": 10**18}, 404, "NotListed", f"frames 0 to {FRAMES - 1}"),
        ({"position": -1}, 422, "ReplayError", "from 0"),
        ({"position": "9" * 5000}, 422, "ReplayError", "from 0"),
        ({"position": "٣"}, 422, "ReplayError", "from 0"),
        ({"position": "1.5"}, 422, "ReplayError", "from 0"),
    ],
)
async def test_what_is_not_there_is_told(
    changes: dict[str, Any], status: int, kind: str, told: str, http: httpx.AsyncClient
) -> None:
    place: dict[str, Any] = {"recording": SESSION, "position": 0, "checkpoint": UNTRAINED}
    place |= changes
    for path in ("/api/frame", "/api/score"):
        reply = await http.get(path, params=place)
        assert reply.status_code == status
        assert reply.json()["error"] == kind
        assert told in reply.json()["detail"]


@pytest.mark.parametrize("missing", ["recording", "position", "checkpoint"])
async def test_a_question_without_its_object_is_told(missing: str, http: httpx.AsyncClient) -> None:
    place: dict[str, Any] = {"recording": SESSION, "position": 0, "checkpoint": UNTRAINED}
    del place[missing]
    reply = await http.get("/api/frame", params=place)
    assert reply.status_code == 422
    assert f"say which {missing}" in reply.json()["detail"]


async def test_a_frame_with_nothing_to_rebuild_it_from_is_told(
    http: httpx.AsyncClient, root: Path
) -> None:
    record(root, "session", [served(10, samples=np.empty((0, 4), np.float32)), served(11)])
    await http.get("/api/catalog")
    place: dict[str, Any] = {"recording": SESSION, "position": FRAMES, "checkpoint": UNTRAINED}
    reply = await http.get("/api/frame", params=place)
    assert reply.status_code == 422
    assert "frame 10 has neither samples" in reply.json()["detail"]
    assert "go on to the next" in reply.json()["detail"]
    await view(http, SESSION, FRAMES + 1, UNTRAINED)


async def test_a_frame_that_is_too_large_is_told(
    http: httpx.AsyncClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    place: dict[str, Any] = {"recording": SESSION, "position": 0, "checkpoint": UNTRAINED}
    reply = await http.get("/api/frame", params=place)
    assert reply.status_code == 422
    assert "--width" in reply.json()["detail"]


async def test_a_keyframe_that_is_no_picture_is_told(http: httpx.AsyncClient, root: Path) -> None:
    record(root, "spoilt", [served(0, keyframe=b"\x89PNG spoilt")])
    await http.get("/api/catalog")
    place: dict[str, Any] = {"recording": f"{KEY}/spoilt", "position": 0, "checkpoint": UNTRAINED}
    reply = await http.get("/api/frame", params=place)
    assert reply.status_code == 422
    assert "sgaps recordings repair" in reply.json()["detail"]


@pytest.mark.parametrize("position", [0, 1])
async def test_a_tag_of_a_camera_turns_no_true_frame(
    position: int, http: httpx.AsyncClient, root: Path
) -> None:
    """Neither what a frame is measured by nor what a whole one is sampled from."""
    tags, jpeg = Image.Exif(), io.BytesIO()
    tags[0x0112] = 6  # turned by a quarter
    Image.fromarray(scene(0)).save(jpeg, "JPEG", exif=tags, quality=100)
    turned: dict[str, Any] = {"keyframe_encoding": "jpeg", "keyframe": jpeg.getvalue()}
    frames = [served(0), dataclasses.replace(captured(1), keyframe=encoded_png(scene(0)))]
    record(root, "straight", frames)
    record(root, "turned", [dataclasses.replace(frame, **turned) for frame in frames])
    await http.get("/api/catalog")
    straight = await view(http, f"{KEY}/straight", position, UNTRAINED)
    seen = await view(http, f"{KEY}/turned", position, UNTRAINED)
    assert seen.header.measured_psnr == pytest.approx(straight.header.measured_psnr, abs=0.2)
    values, expected = (unpack_samples(one.samples)[:, 2] for one in (seen, straight))
    np.testing.assert_allclose(values, expected, atol=0.05)


async def test_what_follows_a_keyframe_that_is_no_picture_is_rebuilt_without_it(
    http: httpx.AsyncClient, root: Path
) -> None:
    spoilt = dataclasses.replace(captured(1), keyframe=b"\x89PNG spoilt")
    record(root, "spoilt", [captured(0), spoilt, captured(2)])
    record(root, "without", [captured(0), captured(2)])
    await http.get("/api/catalog")
    seen = await view(http, f"{KEY}/spoilt", 2, UNTRAINED)
    expected = await view(http, f"{KEY}/without", 1, UNTRAINED)
    assert seen.reconstruction == expected.reconstruction


async def test_what_follows_a_corrupt_frame_is_rebuilt_without_it(
    http: httpx.AsyncClient, root: Path
) -> None:
    with h5py.File(record(root, "corrupt", map(served, range(3))), "r+") as file:
        file[f"/{KEY}/corrupt/frames/pixels"][SAMPLES] = 2.0  # the first sample of frame 1
    await http.get("/api/catalog")
    place: dict[str, Any] = {"recording": f"{KEY}/corrupt", "position": 1, "checkpoint": UNTRAINED}
    reply = await http.get("/api/frame", params=place)
    assert reply.status_code == 422
    assert "sgaps recordings repair" in reply.json()["detail"]
    await view(http, f"{KEY}/corrupt", 2, UNTRAINED)


async def test_a_segment_that_went_or_broke_meanwhile_is_told(
    http: httpx.AsyncClient, root: Path
) -> None:
    (segment,) = (root / KEY / "capture").glob("*.h5")
    await http.get("/api/catalog")
    whole = segment.read_bytes()
    segment.unlink()
    reply = await http.get("/api/recording", params={"recording": CAPTURE})
    assert reply.status_code == 422
    assert "load the page again" in reply.json()["detail"]
    segment.write_bytes(whole[: len(whole) // 3])
    reply = await http.get("/api/recording", params={"recording": CAPTURE})
    assert reply.status_code == 422
    assert f"sgaps recordings repair --root {root}" in reply.json()["detail"]
    listed = (await http.get("/api/catalog")).json()["recordings"]
    assert {one["recording_id"]: one["damaged"] for one in listed} == {SESSION: 0, CAPTURE: 1}


async def test_a_checkpoint_in_color_is_refused_by_name(
    http: httpx.AsyncClient, settings: Settings
) -> None:
    version = publish(settings.data.checkpoints_dir, KEY, color_channels=3).model_version
    await http.get("/api/catalog")
    place: dict[str, Any] = {
        "recording": SESSION,
        "position": 0,
        "checkpoint": f"own/{KEY}/{version}",
    }
    reply = await http.get("/api/frame", params=place)
    assert reply.status_code == 422
    assert reply.json()["error"] == "CheckpointRejected"
    assert "recordings are gray; choose another" in reply.json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8010", "localhost:9"])
async def test_this_machine_may_ask(host: str, http: httpx.AsyncClient) -> None:
    reply = await http.get("/api/catalog", headers={"Host": host})
    assert reply.status_code == 200
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/api/catalog", "/app.js"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8010", "127.0.0.1.evil.example", "0.0.0.0:8010", ""]
)
async def test_a_name_pointed_at_this_machine_may_not(
    host: str, path: str, http: httpx.AsyncClient
) -> None:
    assert (await http.get(path, headers={"Host": host})).status_code == 400


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/replay.css", "text/css"),
        ("/style.css", "text/css"),  # this and what follows is the gateway's as well
        ("/pictures.js", "text/javascript"),
        ("/mark.svg", "image/svg+xml"),
    ],
)
async def test_the_page_runs_its_own_files_alone(
    path: str, media_type: str, http: httpx.AsyncClient
) -> None:
    reply = await http.get(path)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"].startswith(media_type)
    assert "script-src 'self'" in reply.headers["Content-Security-Policy"]
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/live.js", "/game/", "/../app.py", "/%2e%2e/app.py", "/docs"])
async def test_nothing_else_is_served(path: str, http: httpx.AsyncClient) -> None:
    assert (await http.get(path)).status_code == 404


def test_these_sessions_have_the_samples_they_should() -> None:
    assert served(1).samples.shape == (SAMPLES, 4)
