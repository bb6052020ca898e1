"""The examples of the documentation: what they say where something is wrong."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from paths import ROOT
from sgaps_client.pictures import encoded_png
from toy_models import publish
from toy_segments import make_frame, write_segment


def test_a_rebuilt_frame_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = encoded_png(np.zeros((120, 160), np.uint8))
    write_segment(tmp_path, [make_frame(0, keyframe_encoding="png", keyframe=picture)])
    publish(tmp_path / "checkpoints")
    monkeypatch.setenv("SGAPS__DATA__CHECKPOINTS_DIR", str(tmp_path / "checkpoints"))
    main = runpy.run_path(str(ROOT / "docs" / "examples" / "rebuild_frame.py"))["main"]
    main("doom", tmp_path, tmp_path / "rebuilt.png")
    assert "rebuilt.png" in capsys.readouterr().out
    out = tmp_path / "nowhere" / "rebuilt.png"
    with pytest.raises(SystemExit, match=f"{out} cannot be written"):
        main("doom", tmp_path, out)
    assert not capsys.readouterr().out
