"""The person detector's canvases, assignment and training."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hrtrack.cli import main  # noqa: E402
from hrtrack.configs.detector_schema import DetectorTrainConfig, load_detector_config  # noqa: E402
from hrtrack.errors import BackendError, ConfigError, DataError, ModelError  # noqa: E402
from hrtrack.evaluation.metrics.detection import evaluate_detectors, load_people  # noqa: E402
from hrtrack.geometry import iou  # noqa: E402
from hrtrack.models.detector.network import (  # noqa: E402
    DetectorConfig,
    PersonDetector,
    cell_centres,
    config_text,
    load_detector,
)
from hrtrack.train.detector import batches as batches_module  # noqa: E402
from hrtrack.train.detector import fit as fit_module  # noqa: E402
from hrtrack.train.detector.distillation import Teacher  # noqa: E402
from hrtrack.train.detector.fit import settle, train_detector  # noqa: E402
from hrtrack.train.detector.loss import detector_loss  # noqa: E402
from hrtrack.train.detector.mosaic import place  # noqa: E402
from hrtrack.train.detector.photos import IGNORE, PERSON, Photo, PhotoStore, build_store  # noqa: E402
from hrtrack.train.detector.predict import as_function  # noqa: E402
from hrtrack.train.detector.render import paste_layer, render_batch  # noqa: E402
from hrtrack.train.detector.step import Step, fresh  # noqa: E402
from hrtrack.trainer.logs import Meter  # noqa: E402

from ..asked import Asked, count_replays  # noqa: E402

SMALL = {"widths": [16, 16, 32, 32, 32], "blocks": [1, 1, 1, 1], "pyramid": 32, "size": [64, 96]}


def make_set(folder: Path, photos: int) -> None:
    """Noise with one or two bright upright ellipses, in COCO form."""
    rng = np.random.default_rng(5)
    images, annotations = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(photos):
        image = rng.integers(0, 90, (72, 100, 3), np.uint8)
        for column in range(1 + i % 2):
            w, h = int(rng.integers(12, 20)), int(rng.integers(28, 44))
            x, y = int(rng.integers(2, 28)) + 50 * column, int(rng.integers(2, 26))
            centre, axes = (x + w // 2, y + h // 2), (w // 2, h // 2)
            cv2.ellipse(image, centre, axes, 0, 0, 360, (230, 200, 170), -1)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": 1, "iscrowd": 0,
                 "bbox": [x, y, w, h], "area": w * h}
            )  # fmt: skip
        cv2.imwrite(str(folder / f"{i}.png"), image)
        images.append({"id": i, "file_name": f"{i}.png", "width": 100, "height": 72})
    (folder / "people.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def config(folder: Path, **fit: object) -> DetectorTrainConfig:
    return DetectorTrainConfig.model_validate(
        {
            "name": "tiny",
            "model": SMALL,
            "data": {
                "root": str(folder),
                "sets": [{"annotations": "people.json", "images": "."}],
            },
            "stages": [{"begin": 0, "canvases": [{"size": [64, 96], "mosaic": 0.2}]}],
            "fit": {"batch": 8, "warmup_steps": 10, "workers": 0, "ema": 0.97, **fit},
        }
    )


def test_a_placed_photo_takes_its_box_along() -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for _ in range(60):
        image = np.zeros((int(rng.integers(40, 120)), int(rng.integers(40, 120)), 3), np.uint8)
        h, w = image.shape[:2]
        x0, y0 = int(rng.integers(0, w - 24)), int(rng.integers(0, h - 24))
        image[y0 : y0 + 20, x0 : x0 + 16] = 255
        photo = Photo(
            image,
            np.array([[x0, y0, x0 + 16, y0 + 20]], np.float32),
            np.array([PERSON], np.int8),
            0,
        )
        canvas = np.full((128, 160, 3), 7, np.uint8)
        zoom = rng.uniform(0.6, 2.0, 2)
        layer, boxes, kinds = place(
            (10, 5, 140, 120), photo, (zoom[0], zoom[1]), (rng.random(), rng.random()),
            bool(rng.integers(2)), False,
        )  # fmt: skip
        paste_layer(canvas, image, layer)
        assert (canvas[:5] == 7).all()
        assert (canvas[:, :10] == 7).all()
        assert (canvas[120:] == 7).all()
        assert (canvas[:, 140:] == 7).all()
        rows, columns = np.nonzero(canvas[..., 0] > 127)
        if not len(boxes) or kinds[0] == IGNORE:
            continue
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(boxes[0], seen, atol=2.5)
        checked += 1
    assert checked > 20


def test_the_same_seed_draws_the_same_batch(tmp_path: Path) -> None:
    make_set(tmp_path, 6)
    settings = config(tmp_path, steps=1)
    build_store(settings.data.sets, tmp_path, tmp_path / "cache")
    store = PhotoStore(tmp_path / "cache", 0.5, [1.0])
    canvases = settings.stages[0].canvases
    first, again = (render_batch(store, canvases, 4, (0, 9)) for _ in range(2))
    other = render_batch(store, canvases, 4, (0, 10))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_weak_teacher_boxes_and_crowds_are_ignored(tmp_path: Path) -> None:
    make_set(tmp_path, 1)
    data = json.loads((tmp_path / "people.json").read_text())
    box = {"image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 40]}
    data["annotations"] = [
        {**box, "pseudo": True, "score": 0.4},
        {**box, "pseudo": True, "score": 0.8},
        {**box, "iscrowd": 1},
        box,
    ]
    (tmp_path / "people.json").write_text(json.dumps(data))
    build_store(config(tmp_path, steps=1).data.sets, tmp_path, tmp_path / "cache")
    photo = PhotoStore(tmp_path / "cache", 0.5, [1.0])[0]
    assert photo.kinds.tolist() == [IGNORE, PERSON, IGNORE, PERSON]
    np.testing.assert_allclose(photo.boxes[0], [1, 2, 31, 42])


@pytest.mark.slow
@pytest.mark.parametrize("canvases", ["workers", "device"])
def test_training_finds_the_ellipses(tmp_path: Path, canvases: str) -> None:
    make_set(tmp_path / "set", 48)
    settings = config(
        tmp_path / "set", steps=80, lr=5e-3, precision="fp32", log_steps=20, canvases=canvases
    )
    mean = train_detector(settings, tmp_path / "out", device="cpu", quiet=True)
    data = load_people(tmp_path / "set/people.json")
    detect = as_function(mean, (64, 96))
    result = evaluate_detectors({"tiny": detect}, data, tmp_path / "set")["tiny"]
    assert result.ap50["all"] > 0.8
    assert load_detector(tmp_path / "out/state.pt").config == mean.config
    small = load_detector(tmp_path / "out/weights.pt").state_dict()
    for name, value in mean.state_dict().items():
        if value.is_floating_point():  # the counters of the norms are not loaded
            torch.testing.assert_close(small[name], value, rtol=1e-3, atol=1e-4)
    size = (tmp_path / "out/weights.pt").stat().st_size
    assert size < (tmp_path / "out/state.pt").stat().st_size / 5
    rows = list(csv.DictReader((tmp_path / "out/train.csv").open()))
    assert [int(row["step"]) for row in rows] == [20, 40, 60, 80]
    assert float(rows[-1]["loss"]) < 0.6 * float(rows[0]["loss"])


def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", 8)
    settings = config(tmp_path / "set", steps=6, precision="fp32", save_minutes=0)
    whole = train_detector(settings, tmp_path / "whole", device="cpu", quiet=True)

    class Kill(Exception):
        pass

    calls = itertools.count(1)

    def add(meter: object, found: object) -> None:
        if next(calls) == 5:
            raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "add", add)
        with pytest.raises(Kill):
            train_detector(settings, tmp_path / "cut", device="cpu", quiet=True)
    resumed = train_detector(settings, tmp_path / "cut", device="cpu", quiet=True)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert (tmp_path / "cut/weights.pt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("canvases", ["workers", "device"])
def test_worker_processes_draw_the_same_batches(tmp_path: Path, canvases: str) -> None:
    make_set(tmp_path / "set", 8)
    trained = [
        train_detector(
            config(tmp_path / "set", steps=2, precision="fp32", workers=workers, canvases=canvases),
            tmp_path / f"out{workers}",
            device="cpu",
            quiet=True,
        ).state_dict()
        for workers in (0, 1)
    ]
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=0, atol=0, msg=name)


def test_a_store_goes_to_workers_without_its_photos(tmp_path: Path) -> None:
    import pickle

    make_set(tmp_path / "set", 8)
    build_store(config(tmp_path / "set", steps=1).data.sets, tmp_path / "set", tmp_path / "cache")
    store = PhotoStore(tmp_path / "cache", 0.5, [1.0])
    sent = pickle.dumps(store)
    assert len(sent) < store.pixels.size / 10
    np.testing.assert_array_equal(pickle.loads(sent)[3].image, store[3].image)


@pytest.mark.slow
@pytest.mark.shared
def test_a_teacher_is_followed(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", 8)
    base = config(tmp_path / "set", steps=24, precision="fp32", log_steps=8, lr=4e-3)
    teacher = {"model": str(shared / "peers/yolox_nano.onnx"), "until": 0.99}
    settings = DetectorTrainConfig.model_validate({**base.model_dump(), "teacher": teacher})
    train_detector(settings, tmp_path / "out", device="cpu", quiet=True)
    # In the loader's process, and beside the student as on a GPU.
    monkeypatch.setattr(fit_module, "teaches_beside", lambda device: True)
    monkeypatch.setattr(batches_module, "Teacher", None)
    train_detector(settings, tmp_path / "beside", device="cpu", quiet=True)
    logs = [
        list(csv.DictReader((tmp_path / run / "train.csv").open())) for run in ("out", "beside")
    ]
    for rows in logs:
        assert float(rows[-1]["mimicry"]) < 0.9 * float(rows[0]["mimicry"])
    # Neither teaches at the end, and both say the same at the beginning.
    assert float(logs[1][0]["mimicry"]) == pytest.approx(float(logs[0][0]["mimicry"]), rel=0.02)

    asked = Teacher(shared / "peers/yolox_nano.onnx", exact=True)
    photo = cv2.imread(str(shared / "data/lspet/images/im00018.jpg"))
    canvas = cv2.resize(photo, (416, 288))[None, ..., ::-1]
    pictures = np.ascontiguousarray(canvas)
    answer = asked(torch.from_numpy(pictures))
    labelled = np.array([[183.47, 70.2, 288.05, 201.85]]) * 416 / 563
    sure = answer[2][0, answer[1][0] > 0.3].numpy()
    assert iou(sure, labelled).max() > 0.6
    # On a GPU PyTorch computes the same.
    beside = Teacher(shared / "peers/yolox_nano.onnx", torch.device("cpu"))
    same = beside(torch.from_numpy(pictures))
    for one, other, off in zip(answer, same, (0.2, 0.02, 2.0), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert (one.float() - other.float()).abs().max() < off


@pytest.mark.parametrize("distilled", [False, pytest.param(True, marks=pytest.mark.shared)])
def test_a_step_that_is_to_be_recorded_never_waits(
    tmp_path: Path, request: pytest.FixtureRequest, distilled: bool
) -> None:
    settings, teacher, cpu = config(tmp_path, steps=1, precision="fp32"), None, torch.device("cpu")
    if distilled:
        model = request.getfixturevalue("shared") / "peers/yolox_nano.onnx"
        told = {**settings.model_dump(), "teacher": {"model": str(model)}}
        settings = DetectorTrainConfig.model_validate(told)
        teacher = Teacher(model, cpu)
    dice = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (3, 64, 96, 3), dtype=torch.uint8, generator=dice)
    boxes = torch.tensor([[10.0, 5, 40, 60], [0, 0, 0, 0]]).expand(3, -1, -1)
    batch = images, boxes, torch.tensor([[1, 0]] * 3)
    step = Step(settings, fresh(settings, None, cpu), cpu, teacher, True, print)
    step.gradients(distilled, *batch)  # as the steps before a recording
    with Asked() as asked:
        found = step.gradients(distilled, *batch)
    assert asked.waits == []
    for name in ("loss", "box_loss", "gradient", *(["mimicry", "teacher_scores"] * distilled)):
        assert float(found[name]) > 0
    with Asked() as asked:
        detector_loss(*step.state.net(images), *batch[1:], cell_centres(64, 96)[0], step.assign)
    assert "nonzero" in asked.waits[0]  # what a step on a CPU may do


def test_a_loss_that_is_no_number_is_told_and_never_saved(tmp_path: Path) -> None:
    make_set(tmp_path / "set", 4)
    settings = config(tmp_path / "set", steps=6, precision="fp32", lr=1e30, save_minutes=0)
    with pytest.raises(ModelError, match=r"the (loss|gradient) became .*state.pt holds the last"):
        train_detector(settings, tmp_path / "out", device="cpu", quiet=True)
    assert not (tmp_path / "out/weights.pt").exists()
    net = torch.load(tmp_path / "out/state.pt", weights_only=True)["network"]
    assert all(value.isfinite().all() for value in net.values())


def test_a_finished_training_is_read_back_without_its_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path / "set", 4)
    settings = config(tmp_path / "set", steps=2, precision="fp32")
    first = train_detector(settings, tmp_path / "out", device="cpu", quiet=True).state_dict()
    monkeypatch.setattr(fit_module, "batches", None)
    again = train_detector(settings, tmp_path / "out", device="cpu", quiet=True).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = config(tmp_path / "set", steps=2, precision="fp32", optimizer="muon")
    with pytest.raises(ModelError, match=r"other settings: fit.optimizer was adamw, is muon"):
        train_detector(other, tmp_path / "out", device="cpu", quiet=True)


def test_a_resumed_detector_training_keeps_its_precision(tmp_path: Path) -> None:
    make_set(tmp_path, 4)
    settings = config(tmp_path, steps=1, workers=0)
    build_store(settings.data.sets, tmp_path, tmp_path / "cache", quiet=True)
    store, cpu = PhotoStore(tmp_path / "cache", 0.5, [1.0]), torch.device("cpu")
    for kept in ("bf16", "fp32"):
        assert settle(settings, store, cpu, kept).fit.precision == kept
        own = config(tmp_path, steps=1, precision="fp32")
        assert settle(own, store, cpu, kept).fit.precision == "fp32"
    state = torch.random.get_rng_state()
    assert settle(settings, store, cpu, None).fit.precision in ("bf16", "fp32")
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.gpu
def test_a_recorded_training_on_a_gpu_is_as_a_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays = count_replays(monkeypatch)
    make_set(tmp_path / "set", 8)
    logs = []
    for graph in (False, True):
        assert not replays
        settings = config(tmp_path / "set", steps=24, precision="fp32", log_steps=8, graph=graph)
        train_detector(settings, tmp_path / str(graph), device="cuda", quiet=True)
        logs.append(list(csv.DictReader((tmp_path / str(graph) / "train.csv").open())))
    assert len(replays) == 24
    for plain, recorded in zip(*logs, strict=True):
        assert float(recorded["loss"]) == pytest.approx(float(plain["loss"]), rel=0.1)


@pytest.mark.gpu
@pytest.mark.shared
def test_a_gpu_trains_as_a_cpu_does(tmp_path: Path, shared: Path) -> None:
    make_set(tmp_path / "set", 8)
    base = config(tmp_path / "set", steps=24, precision="fp32", log_steps=8, lr=4e-3)
    teacher = {"model": str(shared / "peers/yolox_nano.onnx"), "until": 0.99}
    settings = DetectorTrainConfig.model_validate({**base.model_dump(), "teacher": teacher})
    logs = []
    for device in ("cpu", "cuda"):
        mean = train_detector(settings, tmp_path / device, device=device, quiet=True)
        assert next(mean.parameters()).device.type == device
        logs.append(list(csv.DictReader((tmp_path / device / "train.csv").open())))
    for name in ("loss", "mimicry", "teacher_scores"):
        cpu, cuda = (float(rows[0][name]) for rows in logs)
        assert cuda == pytest.approx(cpu, rel=0.05), name


def test_a_missing_gpu_and_a_begun_run_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(tmp_path / "set", 2)
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no CUDA device"):
            train_detector(config(tmp_path / "set", steps=1), tmp_path / "gpu", device="cuda:0")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/state.pt").write_bytes(b"half a run")
    capsys.readouterr()  # the bar of the decoded photos
    for words, said in (
        (["--output", str(tmp_path / "run")], "already holds a training: add --resume"),
        (["--seed", "3"], "fit.seed="),
    ):
        with pytest.raises(SystemExit):
            main(["train", "person_fast", *words])
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"ema": {"stem.0.weight": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"does not fit this person detector: stem\.0\.weight"):
        load_detector(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ModelError, match="is not a detector checkpoint"):
        load_detector(tmp_path / "text.pt")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        load_detector(tmp_path / "text.onnx")


def test_further_blocks_begin_as_nothing(tmp_path: Path) -> None:
    small = PersonDetector(DetectorConfig((16, 16, 32, 32, 32), (1, 1, 1, 1), 32)).eval()
    saved = {"ema": small.state_dict(), "config": config_text(small.config)}
    torch.save(saved, tmp_path / "small.pt")
    larger = PersonDetector(DetectorConfig((16, 16, 32, 32, 32), (1, 2, 3, 1), 32))
    load_detector(tmp_path / "small.pt", larger)
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    for one, other in zip(small(images), larger.eval()(images), strict=True):
        torch.testing.assert_close(one, other)
    # They learn: no step of theirs is without a gradient for good.
    larger.train()(images)[0].sum().backward()
    assert larger.stages[2][3].expand[1].weight.grad.abs().max() > 0
    with pytest.raises(ModelError, match="does not fit this person detector"):
        load_detector(tmp_path / "small.pt", PersonDetector(DetectorConfig(pyramid=32)))
    fewer = PersonDetector(DetectorConfig((16, 16, 32, 32, 32), (1, 1, 1, 0), 32))
    with pytest.raises(ModelError, match=r"has \[1, 1, 1, 1\] blocks, more than \[1, 1, 1, 0\]"):
        load_detector(tmp_path / "small.pt", fewer)


def test_configuration_errors_name_the_key(tmp_path: Path) -> None:
    assert load_detector_config("person_fast").model.size == (288, 512)
    with pytest.raises(ConfigError, match=r"unknown key 'fit.learning_rate'"):
        load_detector_config("person_fast", ["fit.learning_rate=1"])
    with pytest.raises(ConfigError, match="either minutes or steps"):
        load_detector_config("person_fast", ["fit.steps=5"])
    with pytest.raises(DataError, match="no such annotation file"):
        train_detector(config(tmp_path / "no", steps=1), tmp_path / "out", quiet=True)
