"""`sgaps acl`: a user of the broker for each service, with its commands on its keys only.

What a grant lists follows from what the service calls on `sgaps.bus`; the patterns are made with
the functions that make the keys. Each grant is a selector of Redis 7: its commands on its keys.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sgaps.bus.base import LEDGER_KEY
from sgaps.durable import write_durably
from sgaps.errors import SgapsError
from sgaps.keys import history_key, sampler_key, session_key, watch_key
from sgaps.messages import (
    CheckpointPublished,
    CoordinatesChosen,
    DeadLetter,
    FrameAccepted,
    FrameReconstructed,
    SegmentSealed,
    ViewEncoded,
)
from sgaps.service import HEARTBEAT_PREFIX, heartbeat_key

ACL_FILE = "users.acl"
PASSWORD_BYTES = 32
CONNECT = "+ping +select +client|setname"
"""What every connection does, whatever it is for."""
SCRIPT = "evalsha eval"
"""By its hash, and whole where the broker does not know it."""
CONSUME = "xgroup|create xreadgroup xpending xclaim xrange xack"

FRAMES, RECONSTRUCTIONS = FrameAccepted.STREAM, FrameReconstructed.STREAM
RECORDINGS, CHECKPOINTS = SegmentSealed.STREAM, CheckpointPublished.STREAM
DEAD = DeadLetter.STREAM
COORDINATES, VIEWS = CoordinatesChosen.stream_of("*"), ViewEncoded.stream_of("*")
SESSION, HISTORY = session_key("*"), history_key("*")
WATCH, SAMPLER = watch_key("*"), sampler_key("*")
HEARTBEATS = f"{HEARTBEAT_PREFIX}*"


class AclError(SgapsError):
    """The files cannot be written."""


@dataclass(frozen=True)
class Grant:
    """Commands on keys; without keys, commands that name none."""

    commands: str
    keys: tuple[str, ...] = ()
    access: str = "~"

    def __str__(self) -> str:
        patterns = [f"{self.access}{key}" for key in self.keys]
        return f"({' '.join([*patterns, *(f'+{name}' for name in self.commands.split())])})"


def _reads(commands: str, *keys: str) -> Grant:
    return Grant(commands, keys, "%R~")


def _writes(commands: str, *keys: str) -> Grant:
    return Grant(commands, keys, "%W~")


def _scripted(*keys: str) -> Grant:
    """Keys that are written together, or not at all.

    The broker wants full access to the keys that a script names, and then checks each command
    in it by the other grants: naming a key here opens nothing.
    """
    return Grant(SCRIPT, keys)


def _common(service: str) -> list[Grant]:
    """Its heartbeat (read by its health check) and the frame ledger."""
    return [
        Grant(f"hset pexpire hgetall {SCRIPT}", (heartbeat_key(service, "*"),)),
        # It looks at the ledger before it books what it owes: it may be another one by then.
        Grant("hincrby hgetall", (LEDGER_KEY,)),
    ]


def _consumer(service: str, stream: str, *answers: str) -> list[Grant]:
    """Reads a stream as its group; `answers` are written in the script that acknowledges."""
    return [
        *_common(service),
        Grant(CONSUME, (stream,)),
        _writes("xadd", DEAD),
        _scripted(stream, DEAD, LEDGER_KEY, *answers),
    ]


GRANTS: Mapping[str, list[Grant]] = {
    "gateway": [
        *_consumer("gateway", COORDINATES),
        Grant("scan"),
        _reads("hgetall", HEARTBEATS, SESSION, WATCH),
        Grant("hget", (SESSION,)),
        _writes("hset pexpire", SESSION, WATCH),
        _writes("lpush ltrim pexpire", HISTORY),
        _writes("xadd", FRAMES),
        _scripted(FRAMES, HISTORY, SESSION, WATCH, LEDGER_KEY),
        _reads("xlen", FRAMES),
        _reads("xread xrevrange", VIEWS),
        Grant("xtrim xinfo|groups", (COORDINATES,)),
    ],
    "reconstructor": [
        *_consumer("reconstructor", FRAMES, RECONSTRUCTIONS, VIEWS),
        _reads("lrange", HISTORY),
        _reads("hgetall", WATCH),
        _reads("xread", CHECKPOINTS),
        _writes("xadd", RECONSTRUCTIONS, VIEWS),
        _writes("pexpire", VIEWS),
    ],
    "sampler": [
        *_consumer("sampler", RECONSTRUCTIONS, COORDINATES, SAMPLER),
        Grant("xtrim xinfo|groups", (RECONSTRUCTIONS,)),
        Grant("hget hgetall hset pexpire", (SAMPLER,)),
        _writes("xadd", COORDINATES),
    ],
    "recorder": [
        *_consumer("recorder", FRAMES, SESSION),
        Grant("xtrim xinfo|groups xlen xread", (FRAMES, RECONSTRUCTIONS)),
        # What waits too long for a sampler expires, though none may be left to do it.
        Grant(CONSUME, (RECONSTRUCTIONS,)),
        _scripted(RECONSTRUCTIONS, LEDGER_KEY),
        # What it tells Prometheus of the broker. Ids come with their entries, whoever asks.
        Grant("scan time"),
        _reads("hgetall", HEARTBEATS),
        _reads("xinfo|groups xlen xread", COORDINATES, RECORDINGS),
        _reads("xlen", DEAD),
        _writes("hset pexpire", SESSION),
        _writes("xadd", RECORDINGS),
    ],
    "trainer": [
        *_consumer("trainer", RECORDINGS),
        _writes("xadd", CHECKPOINTS),
    ],
    "monitor": [
        Grant("info scan"),
        # Of the exporter, at each scrape.
        Grant("latency|latest slowlog|len slowlog|get"),
        _reads("hgetall", HEARTBEATS, LEDGER_KEY),
        _reads(
            "xlen xpending xinfo|groups", FRAMES, RECONSTRUCTIONS, RECORDINGS, COORDINATES, DEAD
        ),
    ],
}


def acl_lines(passwords: Mapping[str, str]) -> list[str]:
    """The file that the broker reads: who may do what, with hashes of the passwords."""
    lines = ["user default off resetpass resetkeys resetchannels -@all"]
    for user, grants in GRANTS.items():
        digest = hashlib.sha256(passwords[user].encode()).hexdigest()
        rights = " ".join(map(str, grants))
        lines.append(f"user {user} on #{digest} resetchannels -@all {CONNECT} {rights}")
    digest = hashlib.sha256(passwords["admin"].encode()).hexdigest()
    lines.append(f"user admin on #{digest} ~* &* +@all")
    return lines


def write_acl(folder: Path) -> list[Path]:
    """Write the broker's file, and a password file for each user that has none; what was written.

    Passwords that are there stay, for they are in use: the broker's file follows from them, and is
    written again with the rights of this version. Raises AclError.
    """
    written = []
    with writing_in(folder):
        passwords = {}
        for user in [*GRANTS, "admin"]:
            path = folder / f"{user}.password"
            if write_once(path, secrets.token_urlsafe(PASSWORD_BYTES)):
                written.append(path)
            passwords[user] = path.read_text().strip()
        rights = folder / ACL_FILE
        # Whole or not at all: to a broker that starts with half of it, or with an empty file, all
        # that is missing is open.
        write_durably(rights, ("\n".join(acl_lines(passwords)) + "\n").encode())
        # The broker may run as another user, and hashes of random passwords are no secret.
        rights.chmod(0o644)
    return [*written, rights]


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """A folder, a new one for its owner alone. What cannot be done there is an AclError that names
    a cure."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield
    except OSError as error:
        raise AclError(
            f"{error.filename or folder}: {error.strerror}; name a folder of your own with --out"
        ) from error
    except UnicodeDecodeError as error:
        raise AclError(
            f"a password in {folder} is no text: delete that file, and it is made anew"
        ) from error


def write_once(path: Path, content: str) -> bool:
    """Write a secret whole, for its owner alone; whether it was not there. Raises OSError.

    Nor is an empty one: a run that was cut off left it, and nobody can be let in by it.
    """
    if path.exists() and path.read_text().strip():
        return False
    umask = os.umask(0o077)  # from its first byte on
    try:
        write_durably(path, f"{content}\n".encode())
    finally:
        os.umask(umask)
    return True
