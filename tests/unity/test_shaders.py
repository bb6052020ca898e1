"""The package's shaders: compiled by glslang, run on a software Vulkan, compared with numpy.

What runs is the very source that Unity gets; Unity's own compiler and its macros are not here.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sgaps.protocol import binary_codec
from sgaps.protocol.content import CoordinateSet
from sgaps.sampling.footprints import FOOTPRINTS_PX, sample_image
from tools import require, require_tool
from unity.conftest import HERE, PACKAGE, Harness, run

SHADERS = PACKAGE / "Runtime" / "Resources" / "Sgaps"
WIDTH, HEIGHT = 160, 120
RNG = np.random.default_rng(1)

# Two triangles would show the picture as well; one that covers the screen needs no vertices.
FULL_SCREEN_WGSL = """
struct Varyings { @builtin(position) position: vec4f, @location(0) uv: vec2f };

@vertex
fn main(@builtin(vertex_index) index: u32) -> Varyings {
    let uv = vec2f(f32((index << 1u) & 2u), f32(index & 2u));
    return Varyings(vec4f(uv.x * 2.0 - 1.0, 1.0 - uv.y * 2.0, 0.0, 1.0), uv);
}
"""


def compiled(source: Path, stage: str, entry: str, target: Path) -> bytes:
    """SPIR-V of an entry point."""
    glslang = require_tool("glslangValidator", "glslang-tools")
    includes = f"-I{HERE / 'shaders'}"
    options = ("--auto-map-bindings", "--auto-map-locations", includes)
    run(glslang, "-D", "-V", "-S", stage, "-e", entry, *options, source, "-o", target)
    return target.read_bytes()


def luma_source(tmp_path: Path) -> Path:
    """The HLSL inside the ShaderLab file."""
    text = (SHADERS / "Luma.shader").read_text()
    block = re.search(r"HLSLPROGRAM(.*)ENDHLSL", text, re.DOTALL)
    assert block is not None
    source = tmp_path / "Luma.hlsl"
    source.write_text(re.sub(r"#pragma .*", "", block[1]))
    return source


@pytest.fixture(scope="module")
def device() -> Any:
    """Any graphics device, Mesa's software one (llvmpipe) included."""
    require(importlib.util.find_spec("wgpu"), "wgpu (PyPI)")
    wgpu: Any = importlib.import_module("wgpu")
    adapters = [
        adapter
        for adapter in wgpu.gpu.enumerate_adapters_sync()
        if adapter.info["backend_type"] == "Vulkan"
    ]
    require(adapters, "a Vulkan device (Debian: libvulkan1, mesa-vulkan-drivers)")
    return adapters[0].request_device_sync()


def texture_of(device: Any, pixels: NDArray[np.uint8], texture_format: str) -> Any:
    height, width = pixels.shape[:2]
    size = (width, height, 1)
    texture = device.create_texture(
        size=size, format=texture_format, usage="TEXTURE_BINDING | COPY_DST"
    )
    layout = {"bytes_per_row": pixels.nbytes // height, "rows_per_image": height}
    device.queue.write_texture({"texture": texture}, np.ascontiguousarray(pixels), layout, size)
    return texture


def bind_group(device: Any, pipeline: Any, *resources: Any) -> Any:
    entries = [{"binding": i, "resource": resource} for i, resource in enumerate(resources)]
    return device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)


def gathered(device: Any, code: bytes, luma: NDArray[np.uint8], rects: Any) -> NDArray[np.uint32]:
    """Run the kernel as SampleGatherer does: a thread group for each rectangle."""
    pipeline = device.create_compute_pipeline(
        layout="auto",
        compute={"module": device.create_shader_module(code=code), "entry_point": "Gather"},
    )
    values = device.create_buffer(size=4 * len(rects), usage="STORAGE | COPY_SRC")
    group = bind_group(
        device,
        pipeline,
        texture_of(device, luma, "r8unorm").create_view(),
        {"buffer": device.create_buffer_with_data(data=rects, usage="STORAGE")},
        {"buffer": values},
    )
    encoder = device.create_command_encoder()
    compute = encoder.begin_compute_pass()
    compute.set_pipeline(pipeline)
    compute.set_bind_group(0, group)
    compute.dispatch_workgroups(len(rects))
    compute.end()
    device.queue.submit([encoder.finish()])
    return np.frombuffer(device.queue.read_buffer(values), np.uint32)


def luma_on_gpu(device: Any, code: bytes, rgba: NDArray[np.uint8], *, srgb: bool) -> Any:
    """Run the fragment shader as LumaPicture does: uint8 (H, W)."""
    height, width = rgba.shape[:2]
    fragment = {
        "module": device.create_shader_module(code=code),
        "entry_point": "Fragment",
        "targets": [{"format": "rgba8unorm"}],
    }
    vertex = {
        "module": device.create_shader_module(code=FULL_SCREEN_WGSL),
        "entry_point": "main",
    }
    pipeline = device.create_render_pipeline(layout="auto", vertex=vertex, fragment=fragment)
    screen = texture_of(device, rgba, "rgba8unorm-srgb" if srgb else "rgba8unorm")
    # unity_MatrixMVP, which only the vertex shader uses, then _EncodeSrgb; padded to 16 bytes.
    constants = np.zeros(20, np.int32)
    constants[16] = srgb
    group = bind_group(
        device,
        pipeline,
        {"buffer": device.create_buffer_with_data(data=constants, usage="UNIFORM")},
        screen.create_view(),
        device.create_sampler(),
    )
    size = (width, height, 1)
    target = device.create_texture(
        size=size, format="rgba8unorm", usage="RENDER_ATTACHMENT | COPY_SRC"
    )
    encoder = device.create_command_encoder()
    drawing = encoder.begin_render_pass(
        color_attachments=[
            {
                "view": target.create_view(),
                "load_op": "clear",
                "store_op": "store",
                "clear_value": (0, 0, 0, 1),
            }
        ]
    )
    drawing.set_pipeline(pipeline)
    drawing.set_bind_group(0, group)
    drawing.draw(3)
    drawing.end()
    device.queue.submit([encoder.finish()])
    layout = {"bytes_per_row": 4 * width, "rows_per_image": height}
    read = device.queue.read_texture({"texture": target}, layout, size)
    return np.frombuffer(read, np.uint8).reshape(height, width, 4)[:, :, 0]


def test_every_entry_point_compiles(tmp_path: Path) -> None:
    source = luma_source(tmp_path)
    assert compiled(source, "vert", "Vertex", tmp_path / "vertex")
    assert compiled(source, "frag", "Fragment", tmp_path / "fragment")
    assert compiled(SHADERS / "Gather.compute", "comp", "Gather", tmp_path / "gather")


@pytest.mark.parametrize("order", ["TopFirst", "BottomFirst"])
def test_the_gather_is_that_of_numpy(
    device: Any, harness: Harness, order: str, tmp_path: Path
) -> None:
    """To the byte, with the rectangles that C# computes, from pictures of either row order."""
    count = 500
    image = RNG.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    coords = np.column_stack([RNG.random((count, 2)), RNG.choice(FOOTPRINTS_PX, count)])
    coords[:4, :2] = [(0, 0), (1, 1), (0, 1), (1, 0)]
    chosen = CoordinateSet(
        frame_id=-1,
        coordinate_set_id=1,
        coords=coords.astype(np.float32),
        footprints=True,
        importance=None,
        model_version="none",
        predicted_psnr_db=None,
    )
    in_memory = image if order == "TopFirst" else image[::-1]
    picture, message = tmp_path / "luma", tmp_path / "set"
    picture.write_bytes(in_memory.tobytes())
    message.write_bytes(binary_codec.encode_coordinates(chosen))
    output = harness("sample", picture, str(WIDTH), str(HEIGHT), order, message)
    lines = np.array([line.split() for line in output.splitlines()], np.uint32)
    code = compiled(SHADERS / "Gather.compute", "comp", "Gather", tmp_path / "gather")
    values = gathered(device, code, in_memory, np.ascontiguousarray(lines[:, 1:]))
    expected = sample_image(image, binary_codec.as_sent(chosen.coords))[:, 2]
    np.testing.assert_array_equal(values, np.round(expected * 255))
    np.testing.assert_array_equal(values, lines[:, 0])


@pytest.mark.parametrize("srgb", [False, True])
def test_luma_is_that_of_opencv(device: Any, srgb: bool, tmp_path: Path) -> None:
    """In gamma projects, and in linear ones, where sampling decodes sRGB and the shader encodes."""
    rgba = RNG.integers(0, 256, (HEIGHT, 128, 4)).astype(np.uint8)
    rgba[0, :, :3] = np.arange(128)[:, None] * 2
    code = compiled(luma_source(tmp_path), "frag", "Fragment", tmp_path / "fragment")
    luma = luma_on_gpu(device, code, rgba, srgb=srgb)
    np.testing.assert_array_equal(luma, cv2.cvtColor(rgba[:, :, :3], cv2.COLOR_RGB2GRAY))
