"""The life of a deployment, in order: play, scale, crash, restart, train, down and up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from compose.deployment import PROJECT, Deployment, command, summary_of
from sgaps.recording import SegmentReader, find_segments
from sgaps_cli.supervisor import SERVICES
from waiting import wait_until

KEY = "doom-my_way_home"
FRAMES = 200


def copied_recordings(deployment: Deployment, folder: Path) -> dict[str, list[int]]:
    """Session → the frame ids in its sealed segments, out of the volume."""
    deployment.compose("cp", "recorder:/app/data/recordings/.", str(folder))
    frame_ids: dict[str, list[int]] = {}
    for segment in find_segments(folder):
        with SegmentReader(segment.path) as reader:
            frame_ids.setdefault(segment.session_id, []).extend(map(int, reader.frame_ids))
    return frame_ids


@pytest.fixture(scope="module")
def played(deployment: Deployment) -> dict[str, int]:
    """Frames accepted in each session of 200 frames of Doom."""
    summary = deployment.play("--frames", str(FRAMES), "--session-frames", str(FRAMES // 2))
    assert (summary["sent"], summary["accepted"], summary["lost"]) == (FRAMES, FRAMES, 0)
    # On a busy machine frames are superseded; none may be lost.
    assert summary["answered"] >= FRAMES // 10
    assert summary["psnr_db"] > 20
    return dict.fromkeys(summary["sessions"], FRAMES // 2)


def wait_for_recordings(deployment: Deployment, sessions: Iterable[str], folder: Path) -> None:
    """A silent session is sealed after recorder.segment_idle_secs."""
    attempts = iter(range(100))
    wait_until(
        lambda: set(sessions) <= set(copied_recordings(deployment, folder / str(next(attempts)))),
        "all sessions sealed",
        timeout_secs=30,
    )


def test_what_was_played_is_in_the_volume(
    deployment: Deployment, played: dict[str, int], tmp_path: Path
) -> None:
    wait_for_recordings(deployment, played, tmp_path)
    recorded = copied_recordings(deployment, tmp_path / "last")
    assert {session: len(set(ids)) for session, ids in recorded.items()} == played


def test_containers_may_do_no_more_than_they_must(deployment: Deployment) -> None:
    names = deployment.compose("ps", "--quiet").split()
    assert len(names) == 5
    for told in json.loads(command("docker", "inspect", *names)):
        host = told["HostConfig"]
        assert told["Config"]["User"] in ("10001:10001", "999:999")
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Init"]
        assert min(host["Memory"], host["NanoCpus"], host["PidsLimit"]) > 0
        published = [binding for bound in host["PortBindings"].values() for binding in bound]
        assert all(binding["HostIp"] == "127.0.0.1" for binding in published)


def test_the_doctor_finds_the_deployment_by_itself(
    deployment: Deployment, played: dict[str, int], tmp_path: Path
) -> None:
    found = deployment.doctor(tmp_path)
    needed = ("gateway", "reconstructor", "sampler", "recorder")
    for what in ("containers", f"gateway http://127.0.0.1:{deployment.port}", *needed):
        assert found[what]["well"], found[what]
    assert found["containers"]["detail"] == "5, none of them unwell"


def test_the_port_is_closed_without_the_token(deployment: Deployment) -> None:
    url = f"http://127.0.0.1:{deployment.port}/api/status"
    assert httpx.get(url).status_code == httpx.codes.UNAUTHORIZED


def test_scaled_under_load_no_session_is_interrupted(deployment: Deployment) -> None:
    players = [deployment.start_play("--seed", str(seed)) for seed in range(2)]
    deployment.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "reconstructor=3")
    replicas = [container.name for container in deployment.containers("reconstructor")]
    assert len(replicas) == 3
    wait_until(
        lambda: all(deployment.rebuilt_frames(name) > 0 for name in replicas),
        "every replica has rebuilt frames",
    )
    # The process below docker-init: a crash, after which the engine starts the container again.
    command("docker", "exec", replicas[1], "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
    wait_until(
        lambda: [c.health for c in deployment.containers("reconstructor")] == ["healthy"] * 3,
        "the killed replica is back",
    )
    deployment.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "reconstructor=1")
    for player in players:
        player.send_signal(signal.SIGINT)
    for summary in map(summary_of, players):
        assert len(summary["sessions"]) == 1
        assert (summary["reconnections"], summary["lost"]) == (0, 0)
        assert summary["sent"] == summary["accepted"]
        # Loading three models takes the processors; what is superseded meanwhile is not lost.
        assert summary["answered"] > summary["sent"] / 50


def test_a_restarted_broker_has_everything(deployment: Deployment) -> None:
    before = deployment.get("/api/status")["ledger"]["received"]
    player = deployment.start_play("--frames", "150")
    wait_until(lambda: deployment.get("/api/status")["ledger"]["received"] > before + 10, "play")
    deployment.compose("restart", "redis")
    summary = summary_of(player)
    assert len(summary["sessions"]) == 1
    assert summary["accepted"] > 100
    assert summary["answered"] > 10
    wait_until(lambda: deployment.get("/api/status")["ledger"]["in_flight"] == 0, "all accounted")
    assert deployment.get("/api/status")["ledger"]["received"] >= before + summary["accepted"]


def serving_version(deployment: Deployment) -> str:
    """Nothing where none serves."""
    found = [c for c in deployment.get("/api/checkpoints") if c["checkpoint_key"] == KEY]
    return next((c["model_version"] for c in found if c["serving"]), "")


def test_a_checkpoint_trained_on_the_recordings_serves(deployment: Deployment) -> None:
    deployment.compose("up", "--detach", "--wait", "trainer")
    # It trains where a core would idle, of which other tests leave few.
    wait_until(lambda: serving_version(deployment), "a checkpoint serves", timeout_secs=600)
    deployment.compose("stop", "trainer")


def in_a_container(deployment: Deployment, *arguments: str) -> str:
    """What `sgaps` says there; its exit status is about what it finds."""
    environment = {**deployment.environment, "SGAPS_TOKEN": deployment.token}
    done = subprocess.run(
        ["docker", "run", "--rm", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_what_alerts_name_as_cures_runs_in_a_container(
    deployment: Deployment, played: dict[str, int]
) -> None:
    """As docs/deployment.md has it."""
    image = f"{deployment.environment['SGAPS_IMAGES']}-cli"
    recordings = f"{PROJECT}_recordings:/app/data/recordings"
    told = in_a_container(deployment, "--volume", recordings, image, "recordings", "verify")
    assert told.endswith(", 0 problems\n")
    assert int(told.split()[2]) >= sum(played.values())
    checkpoints = f"{PROJECT}_checkpoints:/app/data/checkpoints"
    wide = ("--env", "COLUMNS=200")
    told = in_a_container(deployment, *wide, "--volume", checkpoints, image, "checkpoints", "list")
    assert serving_version(deployment) in told
    # fmt: off
    told = in_a_container(
        deployment,
        "--network", f"{PROJECT}_backend",
        "--env", "SGAPS_TOKEN",
        "--user", f"{os.getuid()}:{os.getgid()}",
        "--volume", f"{deployment.environment['SGAPS_SECRETS_DIR']}:/secrets:ro",
        "--env", "REDIS_URL=redis://redis:6379/0",
        "--env", "SGAPS__BUS__USERNAME=monitor",
        "--env", "SGAPS__BUS__PASSWORD_FILE=/secrets/monitor.password",
        image, "doctor", "--url", "http://gateway:8000", "--json",
    )
    # fmt: on
    found = {finding["what"]: finding for finding in json.loads(told)["findings"]}
    for what in ("broker of REDIS_URL", "gateway http://gateway:8000", "recorder"):
        assert found[what]["well"], found[what]


def test_down_and_up_loses_nothing(
    deployment: Deployment, played: dict[str, int], tmp_path: Path
) -> None:
    version = serving_version(deployment)
    assert version
    received = deployment.get("/api/status")["ledger"]["received"]
    # Of every profile: a container that is left would look for the network that is gone.
    deployment.compose("--profile", "*", "down")
    deployment.compose("--profile", "*", "build")
    deployment.compose("up", "--detach", "--wait", "--wait-timeout", "120")
    assert played.keys() <= copied_recordings(deployment, tmp_path / "recordings").keys()
    assert deployment.get("/api/status")["ledger"]["received"] == received
    wait_until(lambda: serving_version(deployment) == version, "the same checkpoint serves")
    assert deployment.play("--frames", "20")["model_version"] == version


def put_back(deployment: Deployment, name: str, folder: Path) -> None:
    """As docs/deployment.md has it."""
    # fmt: off
    command(
        "docker", "run", "--rm",
        "--user", "0",
        "--entrypoint", "sh",
        "--volume", f"{PROJECT}_{name}:/to",
        "--volume", f"{folder}:/from:ro",
        f"{deployment.environment['SGAPS_IMAGES']}-recorder",
        "-c", "cp -a /from/. /to && chown -R 10001:10001 /to",
    )
    # fmt: on


def sealed_segments(deployment: Deployment) -> set[str]:
    """Each by name, size and whole seconds: what says that a training run has had it."""
    found = "find data/recordings -name '*.h5' -exec stat -c '%n %s %Y' {} +"
    return set(deployment.compose("exec", "-T", "recorder", "sh", "-c", found).splitlines())


def test_a_backup_is_put_back(
    deployment: Deployment, played: dict[str, int], tmp_path: Path
) -> None:
    version = serving_version(deployment)
    assert version
    assert played.keys() <= copied_recordings(deployment, tmp_path / "recordings").keys()
    sealed = sealed_segments(deployment)
    assert sealed
    deployment.compose("cp", "recorder:/app/data/checkpoints/.", str(tmp_path / "trained"))
    deployment.compose("--profile", "*", "down", "--volumes")
    deployment.compose("up", "--no-start")
    put_back(deployment, "recordings", tmp_path / "recordings")
    put_back(deployment, "checkpoints", tmp_path / "trained")
    deployment.compose("up", "--detach", "--wait")
    wait_until(lambda: serving_version(deployment) == version, "the same checkpoint serves")
    assert sealed <= sealed_segments(deployment)
    summary = deployment.play("--frames", "20")
    assert (summary["model_version"], summary["accepted"]) == (version, 20)
    wait_for_recordings(deployment, [*played, *summary["sessions"]], tmp_path)


def test_nothing_died(deployment: Deployment) -> None:
    """As docs/for-platform-engineers.md has it; only admin may read what died."""
    # fmt: off
    told = command(
        "docker", "run", "--rm",
        "--network", f"{PROJECT}_backend",
        "--user", f"{os.getuid()}:{os.getgid()}",
        "--volume", f"{deployment.environment['SGAPS_SECRETS_DIR']}:/secrets:ro",
        "--env", "SGAPS__BUS__USERNAME=admin",
        "--env", "SGAPS__BUS__PASSWORD_FILE=/secrets/admin.password",
        f"{deployment.environment['SGAPS_IMAGES']}-cli",
        "dead", "--redis", "redis://redis:6379/0",
    )
    # fmt: on
    assert "no dead letters" in told


def test_the_demo_plays(deployment: Deployment) -> None:
    answered = deployment.get("/api/status")["frames_processed"]
    deployment.compose("up", "--detach", "--wait", "client")
    wait_until(
        lambda: deployment.get("/api/status")["frames_processed"] > answered + 10, "the demo plays"
    )
    deployment.compose("stop", "client")


@pytest.mark.parametrize(
    ("name", "has_torch"),
    [
        ("gateway", False),
        ("sampler", False),
        ("recorder", False),
        ("reconstructor", True),
        ("trainer", True),
    ],
)
def test_an_image_holds_what_its_service_needs(
    deployment: Deployment, name: str, has_torch: bool
) -> None:
    """And none of the other services: each is installed alone."""
    others = [service for service in SERVICES if service != name]
    image = f"{deployment.environment['SGAPS_IMAGES']}-{name}"
    code = (
        f"import importlib.util as i; import {name}.__main__; "
        f"print([n for n in {['torch', *others]} if i.find_spec(n)])"
    )
    told = command(
        *("docker", "run", "--rm", "--network", "none", "--entrypoint", "python"), image, "-c", code
    )
    assert told.strip() == str(["torch"] if has_torch else [])
