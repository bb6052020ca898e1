"""What a write is as a Redis command. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sgaps.bus.base import LEDGER_KEY, Ack, Count, Effect, Operation, Publish, Push, Put

FIELD = b"m"
"""The one field of a stream's entry."""

Command: TypeAlias = tuple[str | bytes | int, ...]
"""Name, key, and what follows."""

APPLY = """#!lua
local at = 0
local function take() at = at + 1 return ARGV[at] end
local function command()
  local size = tonumber(take())
  at = at + size
  return {unpack(ARGV, at - size + 1, at)}
end
while at < #ARGV do
  local ids, effects, stream, group = {}, {}
  local count = tonumber(take())
  if count > 0 then stream, group = take(), take() end
  for i = 1, count do ids[i] = take() end
  for i = 1, tonumber(take()) do effects[i] = command() end
  if count == 0 then ids[1] = '' end
  for _, id in ipairs(ids) do
    if count == 0 or redis.call('XACK', stream, group, id) == 1 then
      for _, effect in ipairs(effects) do redis.call(unpack(effect)) end
    end
  end
end
"""
"""Steps, in order: ids to acknowledge (none, or with their stream and group), and the commands that
are done for each of them that was pending, or once where there are none. By its first line a full
broker refuses it whole, before anything is done."""


def command_of(operations: Sequence[Operation]) -> Command:
    """One command for all of them, so that all are done or none: a script where one is not enough.

    It is packed, sent and answered once, where a transaction is so for each of its commands.
    """
    if len(operations) == 1 and (alone := _alone(operations[0])):
        return alone
    steps = [_step(operation) for operation in operations]
    keys = dict.fromkeys(key for step in steps for key in step.keys)
    return ("EVAL", APPLY, len(keys), *keys, *(part for step in steps for part in step.parts))


def _alone(operation: Operation) -> Command | None:
    """What needs no script. An acknowledgement must not: a full broker refuses scripts."""
    if not isinstance(operation, Ack):
        commands = _effect_commands(operation)
        return commands[0] if len(commands) == 1 else None
    if operation.then:
        return None
    return ("XACK", operation.stream, operation.group, *operation.entry_ids)


@dataclass(frozen=True, slots=True)
class _Step:
    """What `APPLY` does at a time."""

    commands: Sequence[Command]
    ids: Command = ()
    """To acknowledge first."""
    of: Command = ()
    """Their stream and group."""

    @property
    def keys(self) -> Command:
        return (*self.of[:1], *(command[1] for command in self.commands))

    @property
    def parts(self) -> Command:
        sized = [part for command in self.commands for part in (len(command), *command)]
        return (len(self.ids), *self.of, *self.ids, len(self.commands), *sized)


def _step(operation: Operation) -> _Step:
    if not isinstance(operation, Ack):
        return _Step(_effect_commands(operation))
    if not operation.entry_ids:
        return _Step([])  # nothing was acknowledged, so nothing follows from it
    effects = [command for effect in operation.then for command in _effect_commands(effect)]
    return _Step(effects, tuple(operation.entry_ids), (operation.stream, operation.group))


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
