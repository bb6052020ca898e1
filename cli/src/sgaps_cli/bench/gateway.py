"""`sgaps bench gateway`: frames per second of one gateway process, beside the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redis import Redis

from sgaps.protocol import binary_codec, json_codec
from sgaps_cli import broker
from sgaps_cli.bench import load
from sgaps_cli.bench.processes import Meter, listening, own_broker, result_of
from sgaps_cli.bench.profile import Profile, profiled
from sgaps_cli.bench.report import Figure, Run, Target, throughput, tracked

UNLIMITED = 1e9
WARM_UP_FRAMES = 400
"""Before a profile: the first ones look things up."""
TARGET = Target(limit=0.6)
FORMS = {"binary": binary_codec.SUBPROTOCOL, "JSON": json_codec.SUBPROTOCOL}


def bench_gateway(*, frames: int, repeats: int) -> list[Figure]:
    """A figure for each form of the protocol; ours and the floor take turns."""
    with own_broker() as url:
        return [_figure(form, url, frames, repeats) for form in FORMS]


def profile_gateway(*, frames: int) -> list[Profile]:
    """Where the time of one gateway process goes, in each form. Raises BrokerError."""
    port = broker.free_port()
    profiles: list[Profile] = []
    with (
        own_broker() as url,
        listening([*gateway_command(url), f"server.port={port}"], port) as server,
    ):
        for form, subprotocol in FORMS.items():
            play(port, subprotocol, WARM_UP_FRAMES)
            with profiled({f"gateway, {form} form": server.pid}, frames) as of_form:
                play(port, subprotocol, frames)
            profiles += of_form
    return profiles


def _figure(form: str, redis_url: str, frames: int, repeats: int) -> Figure:
    ours, floor = [], []
    for _ in tracked(range(repeats), f"gateway, {form} form"):
        ours.append(_run(gateway_command(redis_url), form, redis_url, frames))
        floor.append(_run(_floor_command(redis_url), form, redis_url, frames))
    return throughput(
        f"gateway, {form} form",
        ours,
        floor,
        floor_is="the same server, receive and XADD alone",
        target=TARGET,
    )


def gateway_command(redis_url: str) -> list[str]:
    return ["-m", "gateway", f"bus.url={redis_url}", f"server.max_frame_rate={UNLIMITED:g}"]


def _floor_command(redis_url: str) -> list[str]:
    return ["-m", "sgaps_cli.bench.floor", redis_url]


def _run(command: Sequence[str], form: str, redis_url: str, frames: int) -> Run:
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    port = broker.free_port()
    where = f"server.port={port}" if "gateway" in command else str(port)
    sent = frames // load.CONNECTIONS * load.CONNECTIONS
    with (
        listening([*command[:2], where, *command[2:]], port) as server,
        Meter(sent, {"gateway": server.pid}) as meter,
    ):
        secs = play(port, FORMS[form], frames)
    return replace(meter.run, frames_per_sec=sent / secs)


def play(port: int, subprotocol: str, frames: int) -> float:
    """Send frames to a gateway as fast as it takes them; the seconds it took."""
    return float(result_of(load.__name__, socket_url(port), subprotocol, frames))


def socket_url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/ws/stream"
