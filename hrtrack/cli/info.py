"""`hrtrack info` and `hrtrack cameras`: what is installed, what it runs on, and which model fits;
the cameras of this machine."""

from __future__ import annotations

import json
import os
import platform

import click

PACKAGES = (
    "hrtrack", "numpy", "opencv-python", "opencv-python-headless", "av", "openvino",
    "torch", "tensorrt", "tensorrt-rtx-cu13-libs", "torch2trt", "onnx", "onnxruntime", "nncf",
)  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Show versions, back ends, devices and the recommended model."""
    found = gather()
    installed = found["packages"]["openvino"] != "not installed"
    found["recommended model"] = {"pose": _model(installed)}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for heading, value in found.items():
        click.echo(f"{heading}:")
        for key, entry in value.items():
            click.echo(f"  {key:24} {entry}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cameras(as_json: bool) -> None:
    """List the cameras of this machine."""
    print_cameras(as_json=as_json)


def print_cameras(*, as_json: bool) -> None:
    """Prints what `hrtrack cameras` prints."""
    from ..tracker.video.open import list_cameras

    found = list_cameras()
    if as_json:
        click.echo(json.dumps([{"source": one.source, "name": one.name} for one in found]))
        return
    for camera in found:
        click.echo(f"{camera.source}  {camera.name}")
    if not found:
        click.echo("hrtrack: no camera was found", err=True)


def gather() -> dict[str, dict[str, str]]:
    """Versions, the machine and the usable back ends, as text."""
    versions = {name: _version(name) for name in PACKAGES}
    machine = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }
    return {
        "packages": {name: version or "not installed" for name, version in versions.items()},
        "machine": machine,
        "back ends": _backends(versions),
    }


def _model(openvino: bool) -> str:
    if not openvino:
        return "not measured, for OpenVINO is not installed"
    from .models import best_line

    return best_line()


def _version(package: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _backends(versions: dict[str, str | None]) -> dict[str, str]:
    found = {"openvino": "not installed", "torch": "not installed: pip install 'hrtrack[train]'"}
    if versions["openvino"]:
        from ..models.runtimes.openvino import openvino_core

        core = openvino_core()
        devices = {
            name: core.get_property(name, "FULL_DEVICE_NAME") for name in core.available_devices
        }
        found["openvino"] = ", ".join(f"{name} ({full})" for name, full in devices.items())
    gpu = False
    if versions["torch"]:
        import torch

        gpu = torch.cuda.is_available()
        found["torch"] = torch.cuda.get_device_name() if gpu else "CPU only"
    for name, package in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt-rtx-cu13-libs")):
        if not versions[package]:
            found[name] = f"not installed: pip install 'hrtrack[{name}]'"
        else:
            found[name] = "ready" if gpu else "installed, but no NVIDIA GPU was found"
    return found
