"""`python -m sgaps.health NAME`: whether this instance of a service is ready; `--alive`: whether it
lives, which it does too while it waits for a broker that is away.

A service writes both answers into a small file of its temporary directory each second. This only
reads that file, and imports next to nothing: it runs every few seconds beside every service. Exit
status 0 for yes; else 1, and the reason.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time

STALE_SECS = 6.0
"""A state older than this is none: the event loop hangs, or the process is gone."""
MAX_REASON = 1000
"""Characters; the file stays within one block."""
USAGE = "usage: python -m sgaps.health NAME [--alive] [instance=INSTANCE]"


def state_file(service: str, instance: str) -> str:
    """Where a process of this user keeps its state; `instance` as in the settings."""
    folder = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - what is read there is checked
    return f"{folder}/sgaps-{os.getuid()}-{service}-{instance}.health"


def write_state(path: str, *, not_ready: str, not_alive: str) -> None:
    """Replace the file at once; a link in its place is replaced, not followed. Raises OSError.

    Both reasons are empty where there is none.
    """
    # Everybody on this machine has the same monotonic clock, and it is never set.
    lines = [repr(time.monotonic()), _one_line(not_ready), _one_line(not_alive)]
    fresh = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)  # noqa: PTH108 - pathlib would be half of what a check imports
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "w", encoding="utf-8", errors="backslashreplace") as writer:
        writer.write("\n".join(lines))
    os.replace(fresh, path)  # noqa: PTH105


def why_not(service: str, instance: str, *, alive: bool) -> str:
    """Why an instance is not ready, or not `alive`; empty where it is."""
    try:
        at_secs, *reasons = _read(state_file(service, instance)).split("\n")
        old_secs = time.monotonic() - float(at_secs)
        reason = reasons[1 if alive else 0]
    except (OSError, ValueError, IndexError) as error:
        return f"no state of instance {instance} can be read: {error}"
    if old_secs < 0:
        return "what it said is from before this machine's start"
    return f"it said nothing for {old_secs:.0f} s" if old_secs > STALE_SECS else reason


def _read(path: str) -> str:
    """Raises OSError, UnicodeDecodeError; also where it is somebody else's, or no plain file."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(file, encoding="utf-8") as reader:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise OSError(f"{path} is not a file of this user")
        return reader.read(8 * MAX_REASON)


def _one_line(reason: str) -> str:
    return " ".join(reason[:MAX_REASON].split())


def _own_instance() -> str:
    """As conf/config.yaml and the environment name it, without reading the settings."""
    return os.environ.get("SGAPS__INSTANCE") or os.environ.get("HOSTNAME") or "local"


def main(argv: list[str]) -> int:
    """Print the answer; the exit status, 2 where the question is wrong."""
    named = [argument for argument in argv if "=" not in argument and argument != "--alive"]
    settings = dict(argument.split("=", 1) for argument in argv if "=" in argument)
    instance = settings.pop("instance", _own_instance())
    if len(named) != 1 or named[0].startswith("-") or settings:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    alive = "--alive" in argv
    reason = why_not(named[0], instance, alive=alive)
    sys.stdout.write(f"{named[0]}: {reason or ('alive' if alive else 'ready')}\n")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
