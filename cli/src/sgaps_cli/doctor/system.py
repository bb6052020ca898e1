"""What the gateway's answers mean. No I/O."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from sgaps.bus import in_flight
from sgaps.bus.ledger import ENDS
from sgaps.checkpoints import CHECKPOINTLESS, DEFAULT_KEY, METHODS, NOTHING
from sgaps_cli.doctor.finding import Finding

NEEDED = ("gateway", "reconstructor", "sampler", "recorder")
OPTIONAL = "trainer"
STARTS_WITHIN_SECS = 90.0
"""A replica may be unready for so long without anything being wrong."""
FSYNC_WITHIN_SECS = 30.0
MANY = 0.05
"""Share of the frames that end above which a reason of drops is told as wrong."""
SLOW_SECS = 1.0
LOSSES = ("dead_", "lost_", "undecodable")
CAUSES = {
    "superseded": "more frames than the reconstructors can do: start more, or lower target_fps",
    "expired": "the reconstructors do not keep up at all: start more of them",
    "out_of_order": "replicas differ much in speed: look for one on a slower or busier machine; or "
    "sessions are resumed with other wishes all the time",
    "session_gone": "clients leave or lose their connections before they are answered",
    "client_slow": "clients do not read what they are sent: look at their network",
    "broker_full": "the broker is full: raise maxmemory, or start who does not read its stream",
    "undecodable": "services of releases that do not fit: start all of them from one release",
    "lost_flush": "the broker lost its memory: appendonly yes, and no FLUSHALL",
}
LOSS_CAUSE = "its consumers failed or died on it: sgaps dead says why; their logs name the entry"
NO_FRAMES = ("dead_", "undecodable")
"""Ends of entries that may have been none: what somebody else wrote was never received."""
BROKER_CURE = (
    "start the broker, or mend the way to it (bus.url); REDIS_URL=… sgaps doctor says more"
)
LOOK_AT_LOG = "its log says more: docker compose logs {name}, or data/logs after sgaps up"


class ServiceSaid(msgspec.Struct, frozen=True, kw_only=True):
    """A live process."""

    service: str
    instance: str
    uptime_secs: float = 0.0
    ready: bool = True
    reason: str = ""
    status: dict[str, object] = {}


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`/api/status`."""

    uptime_secs: float
    services: list[ServiceSaid]
    active_sessions: int = 0
    ledger: dict[str, int] = {}
    model_versions: dict[str, str] = {}


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """`/api/ready`."""

    why: dict[str, str]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One of `/api/sessions`."""

    checkpoint_key: str
    connected: bool


def services_found(status: Status, ready: Ready) -> Iterator[Finding]:
    """Each service: how many live, how many are ready, and why the others are not."""
    for name in (*NEEDED, OPTIONAL):
        replicas = [s for s in status.services if s.service == name]
        yield _service(name, replicas, ready.why.get(name, ""))
    for name, why in ready.why.items():
        if name not in NEEDED:
            yield Finding(what=name, well=False, detail=why, cure=_start_cure(name, why))
    yield from _versions([s for s in status.services if s.service == "reconstructor"])


def _service(name: str, replicas: Sequence[ServiceSaid], why: str) -> Finding:
    unready = [s for s in replicas if not s.ready]
    late = [s for s in unready if s.uptime_secs > STARTS_WITHIN_SECS]
    is_missing = not replicas and name != OPTIONAL
    reasons = "; ".join(f"{s.instance}: {s.reason} (up {s.uptime_secs:.0f} s)" for s in unready)
    ready = [f"{s.instance} up {s.uptime_secs:.0f} s" for s in replicas if s.ready]
    count = f"{len(replicas)} live, {len(ready)} ready" if replicas else "none lives"
    return Finding(
        what=name,
        well=not (is_missing or why or late),
        detail="; ".join(filter(None, [count, ", ".join(ready), reasons or why])),
        cure=_start_cure(name, reasons or why),
    )


def _start_cure(name: str, reason: str) -> str:
    if "disk full" in reason:
        return (
            "free space below data.recordings_dir, or set recorder.keep_bytes; it goes on by itself"
        )
    if "disk fails" in reason:
        return "mount data.recordings_dir again, for writing; it goes on by itself"
    if "broker" in reason or name == "broker":
        return BROKER_CURE
    start = "" if reason and reason != "no heartbeat" else f"docker compose up -d {name}; "
    return start + LOOK_AT_LOG.format(name=name)


def _versions(reconstructors: Sequence[ServiceSaid]) -> Iterator[Finding]:
    serving: dict[str, set[str]] = {}
    for replica in reconstructors:
        said = replica.status.get("serving")
        for key, version in (said if isinstance(said, dict) else {}).items():
            serving.setdefault(str(key), set()).add(str(version))
    mixed = {key: versions for key, versions in serving.items() if len(versions) > 1}
    if serving:
        yield Finding(
            what="model versions",
            well=not mixed,
            detail=_listed(mixed or serving),
            cure="a new checkpoint takes a moment; a replica that stays behind says why in its log "
            "(do all see the same checkpoints folder?)",
        )


def _listed(serving: Mapping[str, set[str]]) -> str:
    return "; ".join(f"{key}: {', '.join(sorted(v))}" for key, v in sorted(serving.items()))


def work_found(before: Status, now: Status, sessions: Sequence[Session]) -> Iterator[Finding]:
    """Whether frames come through and are kept; `before` is some seconds older."""
    yield from _ledger(before.ledger, now.ledger)
    recorders = [s for s in now.services if s.service == "recorder"]
    is_flowing = now.ledger.get("received", 0) > before.ledger.get("received", 0)
    yield from (_recorder(recorder, is_flowing=is_flowing) for recorder in recorders)
    for key in sorted({s.checkpoint_key for s in sessions if s.connected}):
        yield _checkpoint(key, now.model_versions)


def _ledger(before: Mapping[str, int], now: Mapping[str, int]) -> Iterator[Finding]:
    """What is wrong now. The ledger is never set back: by its totals a bad hour would be for ever.

    Dead letters stay wrong as long as they are in their stream, which is looked at in the broker.
    """
    received = now.get("received", 0)
    flying = in_flight(now)
    strange = sum(now.get(name, 0) for name in ENDS if name.startswith(NO_FRAMES))
    yield Finding(
        what="ledger",
        well=flying + strange >= 0,
        detail=f"{received} received, {now.get('delivered', 0)} delivered, {flying} in flight",
        cure="more ends than frames: was the broker's data put back, or shared by two systems?",
    )
    lately = Counter(now) - Counter(before)
    ended = sum(lately[name] for name in ENDS)
    drops = _drops(lately)
    for name in (n for n, c in drops.items() if c > MANY * ended or n.startswith(LOSSES)):
        yield Finding(
            what=f"drops: {name}",
            well=False,
            detail=f"{drops[name]} of the {ended} frames that ended just now",
            cure=CAUSES.get(name, LOSS_CAUSE),
        )
    totals = ", ".join(f"{name} {count}" for name, count in _drops(now).items())
    detail = f"{totals or 'none'}, of all frames since the broker began"
    yield Finding(what="drops", well=True, detail=detail)


def _drops(counts: Mapping[str, int]) -> dict[str, int]:
    return {
        name: count
        for name, count in counts.items()
        if count and name != "delivered" and (name in ENDS or name.endswith("_recorder"))
    }


def _recorder(recorder: ServiceSaid, *, is_flowing: bool) -> Finding:
    waiting = str(recorder.status.get("waiting") or "")
    synced_at_secs = float(str(recorder.status.get("synced_at_secs") or 0))
    ago_secs = time.time() - synced_at_secs
    is_late = is_flowing and ago_secs > FSYNC_WITHIN_SECS
    fsync = f"fsync {ago_secs:.0f} s ago" if synced_at_secs else "no fsync yet"
    return Finding(
        what=f"recording by {recorder.instance}",
        well=not waiting and not is_late,
        detail=f"it waits: {waiting}" if waiting else fsync,
        cure=_start_cure("recorder", waiting or "it does not write"),
    )


def _checkpoint(key: str, versions: Mapping[str, str]) -> Finding:
    version = versions.get(key, versions.get(DEFAULT_KEY, NOTHING))
    needs_none = version in METHODS
    return Finding(
        what=f"checkpoint of {key}",
        well=needs_none or version not in CHECKPOINTLESS,
        detail=f"none: reconstructor.method={version} needs none" if needs_none else version,
        cure=f"sgaps train --key {key}, start the trainer, or put one into data.checkpoints_dir "
        "(sgaps checkpoints list)",
    )


def metrics_found(text: str) -> Iterator[Finding]:
    """What only the gateway's own metrics tell: refusals, and how long answers take."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    refused = {
        s.labels["code"]: int(s.value)
        for s in samples
        if s.name == "sgaps_messages_refused_total" and s.value
    }
    received = sum(s.value for s in samples if s.name == "sgaps_frames_received_total")
    yield Finding(
        what="refused messages",
        well=sum(refused.values()) <= MANY * (received + sum(refused.values())),
        detail=", ".join(f"{code} {count}" for code, count in sorted(refused.items())) or "none",
        cure="docs/protocol.md says what each code means and who has to change what",
    )
    buckets = {
        float(s.labels["le"]): s.value
        for s in samples
        if s.name == "sgaps_end_to_end_seconds_bucket"
    }
    if total := max(buckets.values(), default=0.0):
        within_secs = min(le for le, count in buckets.items() if count >= 0.95 * total)
        yield Finding(
            what="answers",
            well=within_secs <= SLOW_SECS,
            detail=f"95 % within {within_secs:g} s since the gateway started",
            cure="start more reconstructors, or give them more processors",
        )
