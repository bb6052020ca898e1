"""The `sgaps` command: what its sub-commands take, and who does what they say."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sgaps.errors import SgapsError
from sgaps_cli import checkpoints, recordings
from sgaps_cli.acl import ACL_FILE, write_acl
from sgaps_cli.bench import command as bench
from sgaps_cli.capture import capture_source, import_file
from sgaps_cli.data_folder import DATA_DIR
from sgaps_cli.dead import list_dead
from sgaps_cli.deployment_secrets import write_secrets
from sgaps_cli.doctor import diagnose
from sgaps_cli.play import MAX_SEED, play_source
from sgaps_cli.replay import export_recording, replay_recordings
from sgaps_cli.up import UpOptions, run_system

app = typer.Typer(
    help="Watch, record and learn from running games at a few kilobytes a second each.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

app.add_typer(checkpoints.app, name="checkpoints", no_args_is_help=True)
app.add_typer(recordings.app, name="recordings", no_args_is_help=True)
app.add_typer(bench.app, name="bench", no_args_is_help=True)

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

SourceName = Annotated[
    str, typer.Argument(help="doom/my_way_home, atari/pong, a video file, or a folder of images")
]
DataDir = Annotated[Path, typer.Option(help="Recordings, checkpoints, logs and the broker's data.")]
Key = Annotated[str | None, typer.Option(help="Checkpoint key; default: from the source's name.")]
Width = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Width of the frames, in their own aspect; default: the source's own. Doom draws some "
        "(640 makes 640x480), an Atari game one; videos and images are scaled.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of recordings; default: as configured.")]
Token = Annotated[str | None, typer.Option(envvar="SGAPS_TOKEN", help="auth_token of the gateway.")]


def _print_version(is_wished: bool) -> None:
    if is_wished:
        typer.echo(f"sgaps {importlib.metadata.version('sgaps-cli')}")
        raise typer.Exit


@app.callback()
def sgaps(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    """What comes before a command."""


@app.command(epilog="Example: `sgaps up --port 8000 --data-dir data --play doom/my_way_home`")
def up(
    port: Annotated[
        int | None, typer.Option(help="Port of the gateway; default: as configured, 8000.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Recordings, checkpoints, logs and the broker's data; default: data, with "
            "recordings and checkpoints as configured."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the live page.")] = True,
    play: Annotated[str | None, typer.Option(help="Also play this game or file.")] = None,
    reconstructors: Annotated[int, typer.Option(min=1, help="Reconstructor replicas.")] = 1,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Setting to override, key=value.")
    ] = None,
) -> None:
    """Start the whole system on this machine; Ctrl-C ends it."""
    options = UpOptions(
        port=port,
        data_dir=data_dir,
        browser=browser,
        play=play,
        reconstructors=reconstructors,
        overrides=tuple(overrides or ()),
    )
    raise typer.Exit(run_system(options))


@app.command(epilog="Example: `sgaps play doom/my_way_home --frames 100 --json`")
def play(
    source: SourceName,
    url: Annotated[str, typer.Option(help="The gateway.")] = "ws://127.0.0.1:8000/ws/stream",
    frames: Annotated[int | None, typer.Option(min=1, help="Frames to send; default: all.")] = None,
    key: Key = None,
    width: Width = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=MAX_SEED, help="Seed of the game and its bot; default: another each time."
        ),
    ] = None,
    token: Token = None,
    session_frames: Annotated[
        int | None, typer.Option(min=1, help="Begin a new session after so many frames.")
    ] = None,
    wait_secs: Annotated[
        float,
        typer.Option(
            "--wait", min=0, help="Seconds to wait for the first session; inf: until it is there."
        ),
    ] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Play a game or file through a running system and print how it went."""
    raise typer.Exit(
        play_source(
            source,
            url=url,
            frames=frames,
            key=key,
            width=width,
            seed=seed,
            token=token,
            session_frames=session_frames,
            wait_secs=wait_secs,
            as_json=as_json,
        )
    )


@app.command(epilog="Example: `sgaps capture doom/my_way_home --frames 2000 --sessions 4`")
def capture(
    source: SourceName,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames of each session: 600 of a game, all of a file."),
    ] = None,
    sessions: Annotated[
        int | None,
        typer.Option(min=1, help="Sessions, each with its own seed: 2 of a game, 1 of a file."),
    ] = None,
    out: Out = None,
    key: Key = None,
    width: Width = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=MAX_SEED, help="Seed of the first session; default: the next of the key."
        ),
    ] = None,
) -> None:
    """Record whole frames of a game, for training and evaluation. Needs no running system."""
    raise typer.Exit(
        capture_source(
            source, frames=frames, sessions=sessions, out=out, key=key, seed=seed, width=width
        )
    )


@app.command("import", epilog="Example: `sgaps import holiday.mp4 --key holiday`")
def import_(
    path: Annotated[Path, typer.Argument(help="A video file or a folder of images.")],
    out: Out = None,
    key: Key = None,
    width: Annotated[int | None, typer.Option(min=1, help="Scale to this width.")] = None,
) -> None:
    """Turn a video or images into a whole-frame recording.

    Of PNG files: 16 bits are taken for the full range from black to white, what is transparent is
    over black, and an animated one is its first picture. Not seen are the shade of gray that one
    without an alpha channel calls transparent, and how one with transparency is to be turned.
    """
    raise typer.Exit(import_file(path, out=out, key=key, width=width))


@app.command(
    epilog="Example: `sgaps replay data/recordings --port 8010`, then choose a recording and two "
    "checkpoints; arrow keys go from frame to frame, the space bar plays"
)
def replay(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of recordings; default: as configured.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page on this machine; 0: any.")
    ] = 8010,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Setting to override, key=value.")
    ] = None,
) -> None:
    """Look through recordings on a page, rebuilt by two checkpoints side by side.

    Needs no running system, and only this machine can reach the page. Ctrl-C ends it.
    """
    replay_recordings(folder, port=port, browser=browser, overrides=overrides or ())


@app.command(
    epilog="Example: `sgaps export doom-my_way_home/1b2c3d --out clip.mp4 --beside`; without a "
    "name the newest recording"
)
def export(
    recording: Annotated[
        str | None, typer.Argument(help="KEY/SESSION; default: the newest.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: SESSION.mp4, here.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of recordings; default: as configured.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="KEY/VERSION, or untrained for bare interpolation; default: what serves the key."
        ),
    ] = None,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside",
            help="The samples on the left; the true frames on the right, where all are recorded.",
        ),
    ] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Setting to override, key=value.")
    ] = None,
) -> None:
    """Write a recording as a video, rebuilt by a checkpoint. Needs no running system."""
    written = export_recording(
        root,
        recording,
        checkpoint=checkpoint,
        out=out,
        beside=beside,
        overrides=overrides or (),
    )
    typer.echo(written)


@app.command(context_settings=PASS_ON)
def train(context: typer.Context) -> None:
    """Train the checkpoint of a key on recordings (`sgaps train --help`)."""
    _become_module("trainer.train", context.args)


@app.command(context_settings=PASS_ON)
def evaluate(context: typer.Context) -> None:
    """Measure a checkpoint on recordings (`sgaps evaluate --help`)."""
    _become_module("trainer.evaluate", context.args)


@app.command(
    epilog="Example: `sgaps acl --out secrets`, then `valkey-server --aclfile secrets/users.acl`; "
    "after an update again, for the rights of the new version: passwords stay"
)
def acl(
    out: Annotated[Path, typer.Option(help="Folder for users.acl and the password files.")],
) -> None:
    """Write a user of the broker for each service, with its rights and a password of its own."""
    for path in write_acl(out):
        typer.echo(path)
    typer.echo(f"start the broker with --aclfile {out / ACL_FILE}; a service with")
    typer.echo(f"bus.username=recorder bus.password_file={out / 'recorder.password'}")


@app.command(
    "secrets",
    epilog="Example: `sgaps secrets --out secrets`, then `docker compose up`; after an update "
    "again, for the rights of the new version: passwords and token stay",
)
def secrets_(
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("secrets"),
) -> None:
    """Write the files that compose.yaml mounts: users and passwords of the broker, the token."""
    for path in write_secrets(out):
        typer.echo(path)


@app.command(
    epilog="Examples: `sgaps doctor` · `sgaps doctor --url https://game.example --token …` · "
    "`REDIS_URL=redis://broker:6379/0 SGAPS__BUS__USERNAME=monitor "
    "SGAPS__BUS__PASSWORD_FILE=secrets/monitor.password sgaps doctor --json`"
)
def doctor(
    url: Annotated[
        str | None,
        typer.Option(help="Look at this gateway's system alone; default: at this machine too."),
    ] = None,
    data_dir: DataDir = DATA_DIR,
    token: Token = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine and a running system, and name the cure for what is wrong.

    It needs the gateway's address and token; with REDIS_URL it looks into the broker as well. The
    exit status is 1 where something is not well.
    """
    raise typer.Exit(diagnose(url, data_dir, token=token, as_json=as_json))


@app.command(epilog="Example: `sgaps dead --redis redis://127.0.0.1:6379/0 --json`")
def dead(
    redis: Annotated[
        str | None,
        typer.Option(
            help="The broker; default: REDIS_URL, or that of the sgaps up that runs here."
        ),
    ] = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, of all.")] = False,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show all of them, and not only the newest.")
    ] = False,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Show and remove all, once their cause is mended."),
    ] = False,
) -> None:
    """List the entries that their consumers gave up, and why."""
    raise typer.Exit(list_dead(redis, data_dir, as_json=as_json, show_all=show_all, remove=remove))


def _become_module(module: str, arguments: list[str]) -> NoReturn:
    """Training needs torch, this command does not. Signals then reach the one process there is.

    Raises SgapsError where the package is not installed.
    """
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise SgapsError(f"there is no package sgaps-{package} here: make setup, or its own image")
    # Without the folder we are in, which may have a folder of that name (-P).
    begin = [sys.executable, "-P", "-m", "sgaps_cli.begin", module]
    os.execv(sys.executable, [*begin, *arguments])  # noqa: S606
