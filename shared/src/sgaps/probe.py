"""Probes: small frames that a gateway sends itself through all stages, to see that they live.

A probe is known by its session, whose id no client can have (`sgaps.protocol.ids`), so every
stage can tell it apart, before it is decoded too. It is in no ledger and in no recording.
"""

from __future__ import annotations

import msgspec

PREFIX = "probe:"


def probe_session(gateway_id: str) -> str:
    """The session of a gateway's probes."""
    return PREFIX + gateway_id


def is_probe(session_id: str) -> bool:
    return session_id.startswith(PREFIX)


class _OfSession(msgspec.Struct):
    session_id: str = ""


_decoder = msgspec.msgpack.Decoder(_OfSession)


def is_probe_entry(data: bytes) -> bool:
    """The same for an entry of a stream; what cannot be decoded is none."""
    try:
        return is_probe(_decoder.decode(data).session_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
