"""`hrtrack info` and `hrtrack models`: what is installed, and which models can be loaded."""

from __future__ import annotations

import json
import os
import platform

import click

from ..errors import ModelError

PACKAGES = (
    "hrtrack", "numpy", "opencv-python", "opencv-python-headless", "av", "openvino",
    "torch", "tensorrt", "tensorrt-rtx-cu13-libs", "torch2trt", "onnx", "onnxruntime", "nncf",
)  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Show versions, back ends and the GPU."""
    found = gather()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for heading, value in found.items():
        click.echo(f"{heading}:")
        for key, entry in value.items():
            click.echo(f"  {key:24} {entry}")


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


@click.group(invoke_without_command=True, short_help="List models that have a name; fetch them.")
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the models that have a name; `hrtrack models fetch NAME` downloads one."""
    if ctx.invoked_subcommand is not None:
        return
    from ..models.zoo import entries

    rows = [("NAME", "TASK", "FROM", "SHA-256", "LICENCE")]
    for entry in entries():
        origin = "package" if entry.bundled else "download"
        known = "-" if entry.bundled else (entry.sha256 or "not published")
        rows.append((entry.name, entry.task, origin, known, entry.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[4]]))


@models.command()
@click.argument("name")
@click.option("--trust-unhashed", is_flag=True, help="Take a file whose hash is not published.")
@click.option("--again", is_flag=True, help="Download it anew if it is there.")
def fetch(name: str, trust_unhashed: bool, again: bool) -> None:
    """Download NAME into the user's cache, check it, and print where it lies."""
    from ..models import zoo

    found = next((entry for entry in zoo.entries() if entry.name == name), None)
    if found is None:
        raise ModelError(f"no model is called '{name}'; `hrtrack models` lists all")
    folder = zoo.cache_folder()
    click.echo(zoo.fetch(found, folder, trust_unhashed=trust_unhashed, again=again))
