"""What an operation is in Redis commands. No I/O."""

from __future__ import annotations

from typing import TypeAlias

from sgaps.bus.base import LEDGER_KEY, Ack, Count, Effect, Operation, Publish, Push, Put

FIELD = b"m"
"""The one field of a stream's entry."""

Command: TypeAlias = tuple[str | bytes | int, ...]
"""Name, key, and what follows."""

ACK_THEN = """#!lua
local group, ids, at = ARGV[1], tonumber(ARGV[2]), 3
local commands, effects = at + ids, {}
while commands <= #ARGV do
  local size = tonumber(ARGV[commands])
  effects[#effects + 1] = {unpack(ARGV, commands + 1, commands + size)}
  commands = commands + size + 1
end
for i = at, at + ids - 1 do
  if redis.call('XACK', KEYS[1], group, ARGV[i]) == 1 then
    for _, effect in ipairs(effects) do redis.call(unpack(effect)) end
  end
end
"""
"""Its first line has the broker refuse it whole, before anything is done, where memory is full."""


def commands_of(operation: Operation) -> list[Command]:
    match operation:
        case Ack(stream, group, entry_ids, ()):
            return [("XACK", stream, group, *entry_ids)]
        case Ack(stream, group, entry_ids, then):
            effects = [command for effect in then for command in _effect_commands(effect)]
            keys = (stream, *(command[1] for command in effects))
            sized = [part for command in effects for part in (len(command), *command)]
            head = ("EVAL", ACK_THEN, len(keys), *keys)
            return [(*head, group, len(entry_ids), *entry_ids, *sized)]
        case _:
            return _effect_commands(operation)


def _effect_commands(effect: Effect) -> list[Command]:
    match effect:
        case Publish(message, max_entries, ttl_secs):
            limit: Command = () if max_entries is None else ("MAXLEN", max_entries)
            append = ("XADD", message.stream, *limit, "*", FIELD, message.encode())
            return [append, *_expiry(message.stream, ttl_secs)]
        case Put(key, fields, ttl_secs):
            pairs = [part for pair in fields.items() for part in pair]
            return [("HSET", key, *pairs), *_expiry(key, ttl_secs)]
        case Push(key, value, keep, ttl_secs):
            push = [("LPUSH", key, value), ("LTRIM", key, 0, keep - 1)]
            return [*push, *_expiry(key, ttl_secs)]
        case Count(name, amount):
            return [("HINCRBY", LEDGER_KEY, name, amount)]


def _expiry(key: str, ttl_secs: float | None) -> list[Command]:
    return [] if ttl_secs is None else [("PEXPIRE", key, millis(ttl_secs))]


def millis(secs: float) -> int:
    return max(1, int(secs * 1000)) if secs else 0
