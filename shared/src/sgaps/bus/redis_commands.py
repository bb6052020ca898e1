"""What a write is as a Redis command. No I/O."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from sgaps.bus.base import LEDGER_KEY, Ack, Count, Effect, Operation, Publish, Push, Put

FIELD = b"m"
"""The one field of a stream's entry."""

Part: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Part, ...]
"""Name, key, and what follows."""
Packable: TypeAlias = str | int | msgspec.Raw
Step: TypeAlias = tuple[list[list[Packable]]] | tuple[list[list[Packable]], Sequence[str], str, str]
"""Commands; or commands, entry ids, and their stream and group."""

STRING_32 = 0xDB
_LONG_STRING = struct.Struct(">BI")
"""How MessagePack begins a string: its kind, its length."""

APPLY = """#!lua
local function not_permitted(effect)
  local name, key, field = unpack(effect, 1, 3)
  if name == 'HSET RISING' then
    if not redis.acl_check_cmd('HGET', key, field) then return 'HGET' end
    name = 'HSET'
  end
  return not redis.acl_check_cmd(name, unpack(effect, 2)) and name
end
local function rises(key, field, value)
  local there = tonumber(redis.call('HGET', key, field))
  return not there or there <= tonumber(value)
end
local function apply(effects)
  for _, effect in ipairs(effects) do
    local name, key, field, value = unpack(effect, 1, 4)
    if name ~= 'HSET RISING' then
      redis.call(unpack(effect))
    elseif rises(key, field, value) then
      redis.call('HSET', unpack(effect, 2))
    end
  end
end
local steps = cmsgpack.unpack(ARGV[1])
for _, step in ipairs(steps) do
  for _, effect in ipairs(step[2] and step[1] or {}) do
    local name = not_permitted(effect)
    if name then return redis.error_reply('NOPERM ' .. name .. ' of ' .. effect[2]) end
  end
end
for _, step in ipairs(steps) do
  local effects, ids, stream, group = unpack(step)
  if not ids then apply(effects) end
  for _, id in ipairs(ids or {}) do
    if redis.call('XACK', stream, group, id) == 1 then apply(effects) end
  end
end
"""
"""Steps, in order: commands, or commands that are done for each of the ids that was pending. They
come as MessagePack in one argument, for each argument costs a client more than what is in it.
`HSET RISING` is HSET, unless the first field has a larger number there already. By its first line a
full broker refuses the script whole, before anything is done. So does one that does not permit what
an acknowledgement brings: broken off there, it would have acknowledged what is never answered."""

APPLY_SHA = hashlib.sha1(APPLY.encode(), usedforsecurity=False).hexdigest()
"""What a broker that has seen the script knows it by: the script is as long as a binary frame."""

RENEW = """#!lua flags=allow-oom
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
for i = 3, #ARGV do
  local id = ARGV[i]
  local own = #redis.call('XPENDING', stream, group, id, id, 1, consumer) == 1
  if own and #redis.call('XRANGE', stream, id, id) == 1 then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
  end
end
"""
"""Claims entries of one's own again. One that was trimmed a claim would take off the list, and its
answer would not count any more."""


def command_of(operations: Sequence[Operation]) -> Command:
    """One command for all of them, so that all are done or none: a script where one is not enough.

    It is packed, sent and answered once, where a transaction is so for each of its commands.
    """
    if len(operations) == 1 and (alone := _alone(operations[0])):
        return alone
    keys: dict[Part, None] = {}
    steps: list[Step] = []
    for operation in operations:
        effects = []
        for command in _commands_of(operation):
            keys[command[1]] = None
            effects.append([_string(p) if isinstance(p, bytes) else p for p in command])
        if isinstance(operation, Ack):
            keys[operation.stream] = None
            steps.append((effects, operation.entry_ids, operation.stream, operation.group))
        else:
            steps.append((effects,))
    return ("EVALSHA", APPLY_SHA, len(keys), *keys, msgspec.msgpack.encode(steps))


def _string(data: bytes) -> msgspec.Raw:
    """Bytes as a string, to which they are the same in Lua: it unpacks no other kind of them."""
    return msgspec.Raw(_LONG_STRING.pack(STRING_32, len(data)) + data)


def with_script(command: Command) -> Command:
    """The same for a broker that does not know the script, and has done nothing: now it will."""
    return ("EVAL", APPLY, *command[2:])


def _alone(operation: Operation) -> Command | None:
    """What needs no script. An acknowledgement must not: a full broker refuses scripts."""
    if not isinstance(operation, Ack):
        commands = _effect_commands(operation)
        return commands[0] if len(commands) == 1 else None
    if operation.then:
        return None
    return ("XACK", operation.stream, operation.group, *operation.entry_ids)


def _commands_of(operation: Operation) -> list[Command]:
    """What is done, of an acknowledgement what follows from it."""
    if not isinstance(operation, Ack):
        return _effect_commands(operation)
    return [command for effect in operation.then for command in _effect_commands(effect)]


def _effect_commands(effect: Effect) -> list[Command]:
    match effect:
        case Publish(message, max_entries, ttl_secs):
            limit: Command = () if max_entries is None else ("MAXLEN", max_entries)
            append = ("XADD", message.stream, *limit, "*", FIELD, message.encode())
            return [append, *_expiry(message.stream, ttl_secs)]
        case Put(key, fields, ttl_secs, rising):
            return [*_change(key, fields, rising), *_expiry(key, ttl_secs)]
        case Push(key, value, keep, ttl_secs):
            push = [("LPUSH", key, value), ("LTRIM", key, 0, keep - 1)]
            return [*push, *_expiry(key, ttl_secs)]
        case Count(name, amount):
            return [("HINCRBY", LEDGER_KEY, name, amount)]


def _change(key: str, fields: Mapping[str, bytes], rising: str | None) -> list[Command]:
    if not fields:
        return []
    rising_first = sorted(fields.items(), key=lambda field: field[0] != rising)
    name = "HSET" if rising is None else "HSET RISING"
    return [(name, key, *(part for field in rising_first for part in field))]


def _expiry(key: str, ttl_secs: float | None) -> list[Command]:
    return [] if ttl_secs is None else [("PEXPIRE", key, millis(ttl_secs))]


def millis(secs: float) -> int:
    return max(1, int(secs * 1000)) if secs else 0
