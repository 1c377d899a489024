"""What a YAML file that describes keypoint sets may say."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError

BUILT_IN = Path(__file__).with_name("skeletons.yaml")
DEFAULT_SIGMA = 0.079
"""That of a shoulder in COCO: of a joint about which nothing is known."""

Name = Annotated[str, Field(min_length=1)]
Chain = Annotated[tuple[Name, ...], Field(min_length=2)]


class SkeletonFile(BaseModel):
    """One keypoint set.

    ``joints``: their names, in the model's order. ``limbs``: chains of two or more joints that
    lines connect. ``flip_pairs``: joints that change places in a mirror image, besides those that
    are called ``left_...`` and ``right_...``. ``sigmas``: the OKS constants, one for all or one a
    joint. ``body``: the joints that decide who someone is, all if it is not given: hands and faces
    have many joints and would outvote the body.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    joints: tuple[Name, ...] = Field(min_length=1)
    limbs: tuple[Chain, ...] = ()
    flip_pairs: tuple[tuple[Name, Name], ...] = ()
    sigmas: (
        Annotated[float, Field(gt=0, allow_inf_nan=False)]
        | tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    ) = DEFAULT_SIGMA
    body: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _fit(self) -> SkeletonFile:
        twice = [joint for joint, count in Counter(self.joints).items() if count > 1]
        if twice:
            raise ValueError(f"two joints are called '{twice[0]}'")
        named = {"flip_pairs": self.flip_pairs, "limbs": self.limbs, "body": (self.body,)}
        for key, chains in named.items():
            for joint in (joint for chain in chains for joint in chain):
                if joint not in self.joints:
                    raise ValueError(f"{key} names the joint '{joint}', which joints does not list")
        if isinstance(self.sigmas, tuple) and len(self.sigmas) != len(self.joints):
            raise ValueError(
                f"{len(self.joints)} joints need as many sigmas, not {len(self.sigmas)}"
            )
        flipped = Counter(joint for pair in self.all_flip_pairs() for joint in pair)
        if flipped and (most := flipped.most_common(1)[0])[1] > 1:
            raise ValueError(f"flip_pairs has the joint '{most[0]}' more than once")
        return self

    def all_flip_pairs(self) -> list[tuple[str, str]]:
        """Those that are said, and those that the joints' names tell."""
        said = {joint for pair in self.flip_pairs for joint in pair}
        sides = [(j, "right_" + j.removeprefix("left_")) for j in self.joints if j[:5] == "left_"]
        told = [pair for pair in sides if pair[1] in self.joints and not said & set(pair)]
        return [*told, *self.flip_pairs]

    def all_sigmas(self) -> tuple[float, ...]:
        """One for each joint."""
        return self.sigmas if isinstance(self.sigmas, tuple) else (self.sigmas,) * len(self.joints)


def read_skeleton(path: Path) -> SkeletonFile:
    """A user's own file.

    Raises:
        ConfigError: the file is missing, no YAML, or has a key or value that does not fit, which
            the message names.
    """
    return _checked(_yaml(path), path.stem, f"skeleton '{path}'")


@cache
def built_in() -> dict[str, SkeletonFile]:
    """The keypoint sets that come with hrtrack as YAML, by name."""
    return {name: _checked(said, name, name) for name, said in _yaml(BUILT_IN).items()}


def _checked(said: Any, name: str, source: str) -> SkeletonFile:
    try:
        return SkeletonFile.model_validate({"name": name} | said)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{source}: unknown key '{key}'") from None
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{source}: {key + ': ' if key else ''}{reason}") from None


def _yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no such skeleton file: '{path}'") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the skeleton '{path}': {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"skeleton '{path}' must hold keys (joints, limbs, sigmas, ...)")
    return values
