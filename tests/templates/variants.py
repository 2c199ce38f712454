"""Every template on every site, in every container, environment and array that the site allows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ckptrun import sites
from ckptrun.templates.catalogue import TEMPLATES
from ckptrun.templates.settings import Job, job

ENVIRONMENTS: tuple[dict[str, str], ...] = ({}, {"venv": "my venv"}, {"conda": "/opt/envs/mine"})
ARRAYS: tuple[dict[str, str], ...] = ({}, {"array": "1-8%2"})


def variants(**always: str) -> Iterator[tuple[str, Job]]:
    """Return each variant with a name of its own; `always` is set in all of them."""
    for template, site in itertools.product(TEMPLATES.values(), (sites.load(name) for name in ("generic", "ai-lab"))):
        environments = [one for one in ENVIRONMENTS if template.program or "venv" not in one]
        for container, environment, array in itertools.product(site.containers, environments, ARRAYS):
            image = {} if container == "none" else {"image": "my image.sif"}
            nodes: list[dict[str, str]] = [{}]
            if template.torchrun and site.name == "generic":
                nodes.append({"nodes": "2"})
            for number in nodes:
                given = always | {"container": container} | image | environment | array | number
                words = [template.name, site.name, container, *environment, *array, *number]
                yield "-".join(words), job(template, site, given)
