"""NV12 on its way to the network; what decodes it on a GPU can only be refused here."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from hrtrack.errors import BackendError, UsageError
from hrtrack.tracker.inference.upload import Upload, nv12_to_rgb
from hrtrack.tracker.video.file import nv12_of
from hrtrack.tracker.video.frame import Frame
from hrtrack.tracker.video.open import open_source

from ...clips import canvas, moving_portrait

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def picture(colorspace: int, color_range: int, size: tuple[int, int] = (360, 640)) -> av.VideoFrame:
    """The portrait as a decoder would give it, with these tags."""
    rgb = av.VideoFrame.from_ndarray(canvas(60, size=size), format="rgb24")
    found = rgb.reformat(
        format="nv12", dst_colorspace=colorspace or None, dst_color_range=color_range or None
    )
    found.colorspace, found.color_range = colorspace, color_range
    return found


# Tags of FFmpeg: 0 and 2 say nothing, 1 is BT.709, 5 and 6 are BT.601; range 2 is full.
@pytest.mark.parametrize("colorspace", [1, 2, 5, 6])
@pytest.mark.parametrize("color_range", [0, 1, 2])
def test_the_colours_are_those_of_swscale(colorspace: int, color_range: int) -> None:
    decoded = picture(colorspace, color_range)
    planes = nv12_of(decoded)
    assert planes is not None
    assert planes.luma.shape == (360, 640)
    assert planes.chroma.shape == (180, 320, 2)
    found = nv12_to_rgb(
        torch.from_numpy(planes.luma.copy()),
        torch.from_numpy(planes.chroma.copy()),
        planes.matrix,
        planes.full_range,
    ).numpy()
    difference = np.abs(found.astype(int) - decoded.to_ndarray(format="rgb24"))
    assert found.shape == (360, 640, 3)
    # Its tables for limited range lie two levels low: they give 188 for a grey of 190.
    assert difference.mean() < (0.5 if color_range == 2 else 2.5)
    assert np.percentile(difference, 99) <= 8
    assert np.abs(found.astype(int) - canvas(60)).mean() < 1.5


@pytest.mark.parametrize(
    ("matrix", "full_range", "yuv", "rgb"),
    [
        ("bt601", False, (235, 128, 128), (255, 255, 255)),
        ("bt601", False, (16, 128, 128), (0, 0, 0)),
        ("bt601", False, (81, 90, 240), (254, 0, 0)),
        ("bt709", False, (63, 102, 240), (255, 1, 0)),
        ("bt709", False, (173, 42, 26), (0, 255, 1)),
        ("bt709", True, (255, 128, 128), (255, 255, 255)),
        ("bt709", True, (18, 255, 116), (0, 0, 254)),
    ],
)
def test_colours_by_the_standards(matrix, full_range, yuv, rgb) -> None:
    luma = torch.full((2, 4), yuv[0], dtype=torch.uint8)
    chroma = torch.tensor(yuv[1:], dtype=torch.uint8).expand(1, 2, 2)
    found = nv12_to_rgb(luma, chroma, matrix, full_range)
    assert found.shape == (2, 4, 3)
    assert (found.int() - torch.tensor(rgb)).abs().max() <= 1


def test_pictures_that_stay_rgb() -> None:
    assert nv12_of(picture(1, 1, size=(120, 160))) is not None
    assert nv12_of(av.VideoFrame(160, 120, "yuv420p")) is None
    assert nv12_of(av.VideoFrame(160, 120, "p010le")) is None
    assert nv12_of(av.VideoFrame(161, 120, "nv12")) is None
    bt2020 = av.VideoFrame(160, 120, "nv12")
    bt2020.colorspace = 9
    assert nv12_of(bt2020) is None


def test_an_nv12_frame_is_uploaded_as_such() -> None:
    decoded = picture(1, 1)
    image = decoded.to_ndarray(format="rgb24")
    frame = Frame(0, 0.0, image, nv12=nv12_of(decoded))
    upload = Upload(torch.device("cpu"))
    there = upload.take(frame).numpy()
    assert np.abs(there.astype(int) - image).mean() < 2.5
    assert not np.array_equal(there, image)
    # What the detector has uploaded as RGB is not uploaded again.
    kept = upload.keep(image)
    assert upload.take(frame) is kept


@NO_GPU
def test_no_gpu_no_frames(tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", 3)
    with pytest.raises(BackendError, match=r"no NVIDIA GPU .* use --decode cpu") as caught:
        open_source(str(clip), decode="cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["webcam", "rtsp://u:secret@host/x", "lavfi:testsrc"])
def test_live_sources_are_decoded_on_the_cpu(source: str) -> None:
    with pytest.raises(UsageError, match="--decode cuda is for files") as caught:
        open_source(source, decode="cuda")
    assert "secret" not in str(caught.value)


@pytest.mark.gpu
def test_the_gpu_decodes_what_the_cpu_decodes(tmp_path: Path) -> None:
    clip = moving_portrait(tmp_path / "clip.mp4", 8)
    with open_source(str(clip)) as source:
        expected = list(source)
    with open_source(str(clip), decode="cuda") as source:
        found = list(source)
    assert [frame.pts for frame in found] == [frame.pts for frame in expected]
    upload = Upload(torch.device("cuda"))
    for one, other in zip(found, expected, strict=True):
        assert one.nv12 is not None
        assert np.abs(one.image.astype(int) - other.image).mean() < 1.5
        assert np.abs(upload.take(one).cpu().numpy().astype(int) - other.image).mean() < 2
