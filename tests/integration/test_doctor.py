"""`sgaps doctor` beside a real system that is broken in several ways."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from integration.processes import ending, heartbeats, start_service
from ports import free_port
from recorder_frames import frame
from sgaps.bus import Publish, RedisBus
from sgaps.settings import Settings
from sgaps_cli.doctor import diagnose
from waiting import wait_until

TOKEN = "the-right-one"  # noqa: S105
LATE_ENOUGH_SECS = 240.0

Doctor = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Doctor:
    """Ask it; what is not well, by its name."""

    def asked(url: str, *, token: str = TOKEN) -> dict[str, dict[str, str]]:
        status = diagnose(url, tmp_path, token=token, as_json=True)
        told = json.loads(capsys.readouterr().out)
        bad = {f["what"]: f for f in told["findings"] if not f["well"]}
        assert status == (1 if bad else 0)
        assert told["well"] is not bool(bad)
        assert all(finding["cure"] for finding in bad.values())
        return bad

    return asked


def test_a_system_with_parts_missing_stopped_and_poisoned(
    clean_broker: str,
    tmp_path: Path,
    settings: Settings,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    overrides = [f"bus.url={clean_broker}", f"server.port={port}", f"server.auth_token={TOKEN}"]
    names = ("gateway", "sampler", "recorder")
    services = [start_service(name, overrides, tmp_path) for name in names]
    with ending(services):
        wait_until(
            lambda: (
                {n for n, h in heartbeats(clean_broker, settings).items() if h.ready} >= {*names}
            ),
            timeout_secs=LATE_ENOUGH_SECS,
        )
        refused = doctor(url, token="a-wrong-one")  # noqa: S106
        assert refused[f"gateway {url}"]["detail"] == "the token is wrong"
        assert "SGAPS_TOKEN" in refused[f"gateway {url}"]["cure"]

        missing = doctor(url)
        assert missing.keys() == {"reconstructor"}
        assert "none lives" in missing["reconstructor"]["detail"]
        assert "docker compose up -d reconstructor" in missing["reconstructor"]["cure"]

        with Redis.from_url(clean_broker) as redis:
            redis.xadd("sgaps:reconstructions", {"m": b"no message"})
            wait_until(lambda: redis.xlen("sgaps:dead") == 1)
        services[2].process.send_signal(signal.SIGSTOP)
        publish_frame(clean_broker, settings)
        wait_until(lambda: "recorder" not in heartbeats(clean_broker, settings))
        wait_until(lambda: "recorder" in doctor(url))
        monkeypatch.setenv("REDIS_URL", clean_broker)
        wait_until(lambda: "sgaps:frames for recorder" in doctor(url))
        broken = doctor(url)
        assert broken["dead letters"]["detail"] == "1 in sgaps:dead"
        assert "sgaps dead --remove" in broken["dead letters"]["cure"]
        assert not any(what.startswith(("drops", "ledger")) for what in broken)  # nothing happens
        assert "the oldest for" in broken["sgaps:frames for recorder"]["detail"]
        services[2].process.send_signal(signal.SIGCONT)


def publish_frame(url: str, settings: Settings) -> None:
    async def done() -> None:
        bus = RedisBus(settings.bus.model_copy(update={"url": url}))
        await bus.write(Publish(frame("s", 0)))
        await bus.close()

    asyncio.run(done())
