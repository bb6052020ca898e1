"""The package as Unity's Package Manager sees it: manifest, assemblies, .meta files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unity.conftest import PACKAGE

ASSEMBLIES = {
    "Sgaps.Client.Core": "Runtime/Core",
    "Sgaps.Client": "Runtime/Engine",
    "Sgaps.Client.Editor": "Editor",
    "Sgaps.Client.Tests": "Tests/Runtime",
    "Sgaps.Client.Editor.Tests": "Tests/Editor",
}
# KeyframeMessage and SessionStatus: Unity has a Keyframe and a SessionState of its own.
PUBLIC_TYPES = {
    "Runtime/Core": """
        NetworkClient SessionConfig PixelSampler PixelData UVCoordinates StateVectorCollector
        PerformanceMonitor SessionStart SessionStartAck FrameData KeyframeMessage Heartbeat
        HeartbeatAck ErrorMessage IWebSocketTransport SessionStatus""",
    "Runtime/Engine": "SGAPSManager FrameCaptureHandler SGAPSDebugPanel",
    "Editor": "SGAPSManagerEditor SGAPSSessionWindow",
}
LONGEST_FILE_LINES = 300


def assets() -> Iterator[Path]:
    """What Unity imports, or copies of a sample: neither .meta files nor folders with a tilde."""
    for path in sorted(PACKAGE.rglob("*")):
        hidden = any(part.endswith("~") for part in path.relative_to(PACKAGE).parts)
        is_of_sample = any(folder in path.parents for folder in (PACKAGE / "Samples~").iterdir())
        if path.suffix != ".meta" and (not hidden or is_of_sample):
            yield path


def meta_of(asset: Path) -> Path:
    return asset.with_name(asset.name + ".meta")


def test_every_asset_has_one_meta_and_no_meta_is_left_over() -> None:
    assert {meta_of(asset) for asset in assets()} == set(PACKAGE.rglob("*.meta"))


def test_guids_are_whole_and_unique() -> None:
    guids = []
    for asset in assets():
        meta = meta_of(asset).read_text()
        guid = re.search(r"^guid: ([0-9a-f]{32})$", meta, re.MULTILINE)
        assert guid is not None, asset
        assert ("folderAsset: yes" in meta) == asset.is_dir()
        guids.append(guid[1])
    assert len(guids) == len(set(guids)) > 0


def test_the_manifest_tells_what_is_there() -> None:
    manifest: dict[str, Any] = json.loads((PACKAGE / "package.json").read_text())
    assert (manifest["name"], manifest["unity"]) == ("com.sgaps.client", "2021.3")
    assert {"displayName", "description", "license", "author", "keywords"} <= manifest.keys()
    modules = [name for name in manifest["dependencies"] if name.startswith("com.unity.modules.")]
    assert modules == list(manifest["dependencies"]), "what every Unity has, and nothing else"
    assert all((PACKAGE / sample["path"]).is_dir() for sample in manifest["samples"])
    assert f"## {manifest['version']}\n" in (PACKAGE / "CHANGELOG.md").read_text()
    codec = (PACKAGE / "Runtime" / "Core" / "Protocol" / "JsonCodec.cs").read_text()
    assert f'ClientVersion = "{manifest["version"]}"' in codec, "what the server is told"
    assert (PACKAGE / "LICENSE.md").read_text() == (PACKAGE.parent / "LICENSE").read_text()


@pytest.mark.parametrize("name", ASSEMBLIES)
def test_assemblies_refer_to_what_exists(name: str) -> None:
    path = PACKAGE / ASSEMBLIES[name] / f"{name}.asmdef"
    assembly: dict[str, Any] = json.loads(path.read_text())
    assert assembly["name"] == name
    own = {other for other in assembly["references"] if other.startswith("Sgaps")}
    assert own <= ASSEMBLIES.keys()
    assert assembly.get("noEngineReferences", False) == (name == "Sgaps.Client.Core")
    assert ("Editor" in assembly.get("includePlatforms", [])) == (".Editor" in name)
    assert ("UNITY_INCLUDE_TESTS" in assembly.get("defineConstraints", [])) == ("Tests" in name)


@pytest.mark.parametrize("folder", PUBLIC_TYPES)
def test_the_names_that_people_look_for_are_public(folder: str) -> None:
    sources = "".join(path.read_text() for path in (PACKAGE / folder).rglob("*.cs"))
    declaration = r"public (?:sealed |static |partial )*(?:class|struct|interface) (\w+)"
    assert set(PUBLIC_TYPES[folder].split()) <= set(re.findall(declaration, sources))


def test_components_have_the_name_of_their_file() -> None:
    """Else Unity does not find them."""
    for source in PACKAGE.rglob("*.cs"):
        for name in re.findall(r"class (\w+) : (?:MonoBehaviour|EditorWindow)", source.read_text()):
            assert source.stem == name


def test_the_sample_sends_first_what_the_guide_says() -> None:
    """`atlas.layouts` finds the pose by its place in the state vector."""
    guide = (PACKAGE / "Documentation~" / "index.md").read_text()
    sample = (PACKAGE / "Samples~" / "FirstStream" / "PlayerState.cs").read_text()
    (pose,) = re.findall(r"^Transform eye .*?(?=^```)", guide, re.MULTILINE | re.DOTALL)
    sent = re.findall(r"State\.AddValue\(.*", pose)
    assert len(sent) == 5
    assert re.findall(r"State\.Add\w+\(.*", sample)[:5] == sent


def test_imgui_runs_only_while_the_panel_is_visible() -> None:
    """An enabled component with OnGUI costs time and garbage in every frame, whatever it does."""
    sources = (PACKAGE / "Runtime").rglob("*.cs")
    assert [file.stem for file in sources if "OnGUI()" in file.read_text()] == ["DebugPanelDrawing"]
    panel = (PACKAGE / "Runtime" / "Engine" / "SGAPSDebugPanel.cs").read_text()
    assert "_drawing.enabled = isVisible;" in panel


def test_no_file_is_too_long() -> None:
    for source in PACKAGE.rglob("*.cs"):
        assert len(source.read_text().splitlines()) <= LONGEST_FILE_LINES, source
