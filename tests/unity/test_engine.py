"""The assemblies that need Unity: their types are checked against hand-kept stubs of its API.

The stubs hold the members that the package uses (tests/unity/stubs). What Unity does at run time,
and a stub that is wrong, are not found out here; the loop of SGAPSManager runs on them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import require, require_tool
from unity.conftest import HERE, NUNIT, PACKAGE, Compiler, run, run_tests


@pytest.fixture(scope="module")
def unity_engine(compiler: Compiler) -> Path:
    return compiler.library("UnityEngine", HERE / "stubs" / "UnityEngine.cs")


@pytest.fixture(scope="module")
def engine(compiler: Compiler, core: Path, unity_engine: Path) -> Path:
    """The engine assembly as the editor compiles it."""
    sources = PACKAGE / "Runtime" / "Engine"
    references = [core, unity_engine]
    return compiler.library(
        "Sgaps.Client",
        sources,
        references=references,
        defines=["ENABLE_LEGACY_INPUT_MANAGER"],
        documented=True,
    )


@pytest.mark.parametrize("defines", [[], ["UNITY_WEBGL"], ["UNITY_WEBGL", "UNITY_EDITOR"]])
def test_the_engine_assembly_compiles_for_browsers_and_for_the_new_input_system(
    compiler: Compiler, core: Path, unity_engine: Path, defines: list[str]
) -> None:
    compiler.library(
        "-".join(["Engine", *defines]),
        PACKAGE / "Runtime" / "Engine",
        references=[core, unity_engine],
        defines=defines,
        documented=True,
    )


@pytest.fixture(scope="module")
def unity_editor(compiler: Compiler, unity_engine: Path) -> Path:
    source = HERE / "stubs" / "UnityEditor.cs"
    return compiler.library("UnityEditor", source, references=[unity_engine])


@pytest.fixture(scope="module")
def editor(
    compiler: Compiler, core: Path, engine: Path, unity_engine: Path, unity_editor: Path
) -> Path:
    references = [core, engine, unity_engine, unity_editor]
    return compiler.library(
        "Sgaps.Client.Editor", PACKAGE / "Editor", references=references, documented=True
    )


def test_the_editor_assembly_and_its_tests_compile(
    compiler: Compiler,
    core: Path,
    engine: Path,
    unity_engine: Path,
    editor: Path,
    unity_editor: Path,
) -> None:
    require(NUNIT.exists(), f"{NUNIT} (Debian: libnunit-cil-dev)")
    compiler.library(
        "Sgaps.Client.Editor.Tests",
        PACKAGE / "Tests" / "Editor",
        references=[core, engine, editor, unity_engine, unity_editor, NUNIT],
    )


def test_the_capture_loop_outlives_what_goes_wrong(
    compiler: Compiler, core: Path, engine: Path, unity_engine: Path
) -> None:
    run_tests(compiler, "Sgaps.Client.EngineTests", HERE / "engine", core, engine, unity_engine)


def test_the_sample_compiles(
    compiler: Compiler, core: Path, engine: Path, unity_engine: Path
) -> None:
    compiler.library(
        "FirstStream", PACKAGE / "Samples~" / "FirstStream", references=[core, engine, unity_engine]
    )


def test_a_games_own_script_may_use_both_apis_by_their_short_names(
    compiler: Compiler,
    core: Path,
    engine: Path,
    unity_engine: Path,
    editor: Path,
    unity_editor: Path,
) -> None:
    """The stubs have those names of Unity's that ours collided with."""
    references = [core, engine, editor, unity_engine, unity_editor]
    compiler.library("Game", HERE / "game", references=references)


def test_the_browsers_socket_is_polled() -> None:
    """The .jslib in Node: Emscripten's names and the browser's WebSocket are stood in for."""
    node = require_tool("node", "nodejs")
    program = HERE / "stubs" / "browser.js"
    output = run(node, program, PACKAGE / "Runtime" / "Plugins" / "WebGL" / "SgapsWebSocket.jslib")
    assert output.splitlines()[-1] == "all as expected"
