"""No hostile identifier is accepted anywhere, and none leaves a trace on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from hostile.ids import TRICKS
from integration.conftest import RunningGateway
from integration.talk import START, refusal
from sgaps.checkpoints import CheckpointDirectory
from sgaps.errors import CheckpointError, ErrorCode, RecordingError
from sgaps.protocol.ids import is_valid_id
from sgaps.recording import find_segments
from sgaps.recording.layout import session_folder

PATHS = (
    "/api/sessions/{}",
    "/api/sessions/{}/reconstruction.png",
    "/api/sessions/{}/importance.png",
)
ON_DISK: dict[str, Callable[[Path, str], object]] = {
    "key of a recording": lambda root, text: session_folder(root, text, "s"),
    "session of a recording": lambda root, text: session_folder(root, "k", text),
    "key of segments": find_segments,
    "key of a checkpoint": lambda root, text: CheckpointDirectory(root).current(text),
    "version of a checkpoint": lambda root, text: CheckpointDirectory(root).manifest("k", text),
    "version to promote": lambda root, text: CheckpointDirectory(root).promote("k", text),
    "key to promote": lambda root, text: CheckpointDirectory(root).promote(text, "v1"),
    "key of versions": lambda root, text: CheckpointDirectory(root).versions(text),
}


def everything_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_the_table_is_large_and_no_trick_is_an_id() -> None:
    print(f"{len(TRICKS)} hostile ids in {len(ON_DISK) + len(PATHS) + 2} places")
    assert len(set(TRICKS)) == len(TRICKS) > 100
    assert [text for text in TRICKS if is_valid_id(text)] == []


@pytest.mark.parametrize("place", ON_DISK.values(), ids=ON_DISK.keys())
def test_none_becomes_a_path(tmp_path: Path, place: Callable[[Path, str], object]) -> None:
    root = tmp_path / "outer" / "root"
    (root / "k" / "v1").mkdir(parents=True)
    before = everything_below(tmp_path)
    for text in TRICKS:
        with pytest.raises((CheckpointError, RecordingError), match=r"is no|no legal"):
            place(root, text)
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("field", ["checkpoint_key", "resume_session_id"])
async def test_none_starts_or_resumes_a_session(
    gateway: RunningGateway, tmp_path: Path, field: str
) -> None:
    before = everything_below(tmp_path)

    async def code_for(text: str) -> str:
        async with gateway.connect() as socket:
            error = await refusal(socket, json.dumps({**START, field: text}))
        return str(error["code"])

    codes = {code for text in TRICKS for code in [await code_for(text)]}
    refusals = {ErrorCode.BAD_MESSAGE, ErrorCode.BAD_JSON, ErrorCode.MESSAGE_TOO_LARGE}
    assert codes == refusals
    assert everything_below(tmp_path) == before
    async with httpx.AsyncClient(base_url=gateway.http_url) as http:
        assert (await http.get("/api/sessions")).json() == []


@pytest.mark.parametrize("path", PATHS)
async def test_none_finds_a_page(gateway: RunningGateway, path: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.http_url) as http:
        for text in (text for text in TRICKS if text and len(text) < 1000):
            escaped = quote(text, safe="", errors="surrogatepass").replace(".", "%2E")
            for url in {path.format(escaped), path.format(escaped.replace("%2F", "/"))}:
                answer = await http.get(url)
                assert 300 <= answer.status_code < 500, (url, answer.status_code)
