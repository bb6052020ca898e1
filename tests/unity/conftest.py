"""The Unity package without Unity: its C# compiled by Mono, its shaders by glslang.

A tool that is missing skips the test at home and fails it in CI.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from paths import ROOT
from tools import require, require_tool

PACKAGE = ROOT / "unity-client"
HERE = Path(__file__).parent
NUNIT = Path("/usr/lib/cli/nunit.framework-2.6.3/nunit.framework.dll")
LANGUAGE = "7"
"""What Mono's compiler knows; Unity 2021.3 knows more."""


def run(*command: str | Path, given: str = "") -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """Mono's C# compiler; every warning is an error."""

    program: str
    out: Path

    def library(
        self,
        name: str,
        *sources: Path,
        references: Sequence[Path] = (),
        defines: Sequence[str] = (),
        documented: bool = False,
    ) -> Path:
        """Compile folders or files into an assembly."""
        return self._compile(
            f"{name}.dll",
            "library",
            sources,
            references,
            [
                *(f"-define:{define}" for define in defines),
                # Then a public member without documentation is a warning, and so an error.
                *([f"-doc:{self.out / name}.xml"] if documented else []),
            ],
        )

    def program_of(self, name: str, *sources: Path, references: Sequence[Path]) -> Path:
        """Compile folders or files into a program."""
        return self._compile(f"{name}.exe", "exe", sources, references, [])

    def _compile(
        self,
        file: str,
        target: str,
        sources: Sequence[Path],
        references: Sequence[Path],
        options: Sequence[str],
    ) -> Path:
        files = [file for source in sources for file in csharp_files(source)]
        assert files, f"no sources in {sources}"
        run(
            self.program,
            f"-target:{target}",
            f"-langversion:{LANGUAGE}",
            "-warn:4",
            "-warnaserror",
            "-reference:System.Core.dll",
            *(f"-reference:{reference}" for reference in references),
            *options,
            f"-out:{self.out / file}",
            *files,
        )
        return self.out / file


def run_tests(compiler: Compiler, name: str, folder: Path, *references: Path) -> None:
    """NUnit's console runs the tests of a folder: each of them, and each passes."""
    console = require_tool("nunit-console", "nunit-console")
    require(NUNIT.exists(), f"{NUNIT} (Debian: libnunit-cil-dev)")
    shutil.copy(NUNIT, compiler.out)
    tests = compiler.library(name, folder, references=[*references, NUNIT])
    output = run(console, "-nologo", "-noxml", tests)
    summary = re.search(r"Tests run: (\d+), Errors: 0, Failures: 0, Inconclusive: 0", output)
    assert summary is not None, output
    declared = sum(
        len(re.findall(r"\[Test\]|\[TestCase\(", path.read_text())) for path in folder.glob("*.cs")
    )
    assert int(summary[1]) == declared


def csharp_files(source: Path) -> list[Path]:
    """A file, or all C# below a folder."""
    return [source] if source.is_file() else sorted(source.rglob("*.cs"))


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(
        program=require_tool("mcs", "mono-mcs"), out=tmp_path_factory.mktemp("assemblies")
    )


@pytest.fixture(scope="session")
def core(compiler: Compiler) -> Path:
    """The assembly without the engine."""
    return compiler.library("Sgaps.Client.Core", PACKAGE / "Runtime" / "Core", documented=True)


@dataclass(frozen=True, kw_only=True)
class Harness:
    """The core, and what the editor's test button does, on a command line: tests/unity/harness."""

    command: tuple[str, str]

    def __call__(self, *arguments: str | Path, given: str = "") -> str:
        return run(*self.command, *arguments, given=given)


@pytest.fixture(scope="session")
def harness(compiler: Compiler, core: Path) -> Harness:
    mono = require_tool("mono", "mono-runtime")
    sources = [HERE / "harness", PACKAGE / "Editor" / "GatewayTest.cs"]
    program = compiler.program_of("harness", *sources, references=[core])
    return Harness(command=(mono, str(program)))
