"""The commands of the three guides, run in order as they are printed, in a folder of their own.

What needs a Docker engine is run by tests/compose, which tests/compose/test_guides.py sees to; here
`sgaps up` stands in for the deployment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import httpx
import pytest
import yaml

from e2e.scratch import HTTP, Scratch
from markdown_files import GUIDES, blocks, commands, guide
from sgaps_cli.broker import is_listening
from tools import require, require_tool
from waiting import wait_until

PORT = 8000
NEEDS_ENGINE = ("docker ", "make secrets")
SERVERS = ("make run", ".venv/bin/sgaps up")
STAND_IN = (
    ".venv/bin/sgaps secrets",
    ".venv/bin/sgaps up --set server.auth_token_file=secrets/auth_token",
)
"""`make secrets`, as its container runs it, and the same services with the same token."""
KEY = "atari-space_invaders"


def plays(_: Scratch, said: str) -> None:
    summary = json.loads(said)
    assert summary["sent"] == summary["accepted"] == 60
    assert summary["answered"] > 0


def shows_the_loop(scratch: Scratch, _: str) -> None:
    wait_until(lambda: scratch.ledger().get("delivered", 0) > 0, "an answered frame")
    assert "SGAPS-MAE" in httpx.get(f"{HTTP}/").text
    assert "runs in your browser" in httpx.get(f"{HTTP}/game", follow_redirects=True).text


def lists_recordings(_: Scratch, said: str) -> None:
    assert re.search(r"(atari|doom)-\w", said)  # the table wraps long keys


def captured(scratch: Scratch, _: str) -> None:
    assert list(scratch.folder.glob(f"data/*/{KEY}/capture-*/*.h5"))


def verified(_: Scratch, said: str) -> None:
    told = json.loads(said)
    assert (told["frames"], told["findings"]) == (4 * 60, [])


def trained(scratch: Scratch, said: str) -> None:
    assert re.match("published|kept", said)
    (run, *_) = sorted(scratch.folder.glob(f"data/runs/{KEY}/*"))
    assert cv2.imread(str(run / "curves.png")) is not None
    numbers = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("loss" in line for line in numbers)


def evaluated(scratch: Scratch, said: str) -> None:
    assert "| model, closed loop" in said
    for name in ("figures.png", "curve.png"):
        assert cv2.imread(str(scratch.folder / "data" / name)) is not None


def rebuilt(scratch: Scratch, said: str) -> None:
    assert re.match(r"v0001-\w+: \d\d\.\d\d dB", said)
    picture = cv2.imread(str(scratch.folder / "data" / "rebuilt.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert picture.shape == (210, 2 * 160)


def serves_the_first(_: Scratch, said: str) -> None:
    assert "is served by v0001-" in said


def shows_a_manifest(_: Scratch, said: str) -> None:
    manifest = json.loads(said)
    assert manifest["checkpoint_key"] == KEY
    of_the_guide = re.compile(r"capture-1[0-3]-")  # its seeds; others are the general checkpoint's
    assert len(list(filter(of_the_guide.match, manifest["data"]["train_sessions"]))) == 3


def measures(_: Scratch, said: str) -> None:
    if not said.startswith("{"):
        assert "| gateway, binary form, frames/s |" in said
        assert "Machine: " in said
        return
    costs = {cost["stage"]: cost for cost in json.loads(said)["measured"]}
    assert list(costs) == ["gateway", "recorder", "reconstructor", "sampler"]
    assert all(cost["cpu_secs_per_1000"] > 0 for cost in costs.values())
    # A frame goes in twice, onto the stream and into the session's memory; 8 older ones come out.
    assert 6_000 < costs["gateway"]["broker_bytes_in"] < 9_000
    assert 9 * 3_000 < costs["reconstructor"]["broker_bytes_out"] < 9 * 4_000


def finds_all_well(_: Scratch, said: str) -> None:
    assert json.loads(said)["well"] if said.startswith("{") else "bad" not in said


def secret_files(scratch: Scratch, _: str) -> None:
    assert (scratch.folder / "deploy/kubernetes/base/secrets/users.acl").exists()


def manifests(scratch: Scratch, _: str) -> None:
    objects = list(yaml.safe_load_all((scratch.folder / "mine.yaml").read_text()))
    assert {"StatefulSet", "Deployment", "Ingress", "Secret"} <= {each["kind"] for each in objects}


def nothing_more(_: Scratch, __: str) -> None:
    """That it ends well is all it promises."""


PROMISES: dict[str, Callable[[Scratch, str], None]] = {
    "make run": shows_the_loop,
    ".venv/bin/sgaps up": nothing_more,
    ".venv/bin/sgaps play": plays,
    ".venv/bin/sgaps recordings list": lists_recordings,
    ".venv/bin/sgaps recordings verify": verified,
    ".venv/bin/sgaps capture": captured,
    ".venv/bin/sgaps train": trained,
    ".venv/bin/sgaps evaluate": evaluated,
    ".venv/bin/python docs/examples/rebuild_frame.py": rebuilt,
    ".venv/bin/sgaps checkpoints list": lists_recordings,
    ".venv/bin/sgaps checkpoints show": shows_a_manifest,
    ".venv/bin/sgaps checkpoints promote": serves_the_first,
    ".venv/bin/sgaps bench": measures,
    ".venv/bin/sgaps doctor": finds_all_well,
    ".venv/bin/sgaps secrets": secret_files,
    "cp": nothing_more,
    "kubectl kustomize": manifests,
}
"""What each command is to have done, by how it begins, behind the variables that it is given."""


def promise_of(command: str) -> Callable[[Scratch, str], None]:
    plain = re.sub(r"^([A-Z_]+=\S+(?: [^)]*\))? )+", "", command)
    (found,) = (promise for start, promise in PROMISES.items() if plain.startswith(start))
    return found


@pytest.mark.parametrize("name", GUIDES)
def test_every_command_does_what_it_promises(name: str, tmp_path: Path) -> None:
    require_tool("make", "make")
    require(not is_listening(PORT), f"port {PORT}, with nothing on it,")
    scratch = Scratch(tmp_path)
    with ExitStack() as whole_guide:
        for block in blocks(guide(name)):
            with ExitStack() as servers:
                for command in commands(block):
                    if command.startswith(NEEDS_ENGINE):
                        if not is_listening(PORT):
                            scratch.run(STAND_IN[0])
                            whole_guide.enter_context(scratch.serving(STAND_IN[1]))
                        continue
                    if command.startswith(SERVERS):
                        servers.enter_context(scratch.serving(command))
                        promise_of(command)(scratch, "")
                    else:
                        promise_of(command)(scratch, scratch.run(command))
