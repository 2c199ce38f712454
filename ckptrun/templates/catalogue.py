"""PURE. Which templates there are, and what can be set in them: two tables, read by `ckptrun template` and by the docs."""

from __future__ import annotations

from typing import NamedTuple


class Template(NamedTuple):
    """One template. `program`: whether a training program comes with it; `gpus`: how many it asks for when nothing is said.

    `image`: which of a site's images it runs in; `needs`: what `pip install` brings, where the image or environment has it not.
    """

    name: str
    about: str
    program: bool = True
    gpus: int = 1
    image: str = "python"
    needs: str = ""
    torchrun: bool = False


TEMPLATES = {
    one.name: one
    for one in (
        Template("pickle", "plain Python, saved with pickle", gpus=0),
        Template("pytorch", "PyTorch on one GPU, or on none", image="pytorch", needs="torch"),
        Template(
            "pytorch-ddp", "PyTorch on several GPUs and nodes, with torchrun", gpus=2, image="pytorch", needs="torch", torchrun=True
        ),
        Template("keras", "TensorFlow with Keras 2 or 3", image="tensorflow", needs="tensorflow"),
        Template("jax", "JAX, saved by Orbax", needs="jax orbax-checkpoint"),
        Template("lightning", "PyTorch Lightning", image="pytorch", needs="torch lightning"),
        Template("huggingface", "the Trainer of Hugging Face", image="pytorch", needs="torch transformers accelerate"),
        Template("command", "any command that saves and resumes by itself", program=False, gpus=0),
    )
}


class Key(NamedTuple):
    """One setting: what its value is called, what it means, what holds when it is not set, and where it has a meaning."""

    name: str
    value: str
    help: str
    default: str
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


KEYS = {
    one.name: one
    for one in (
        Key("job-name", "TEXT", "The job's name.", "the template's"),
        Key("time", "DURATION", "How long each job may run: 12h, 2d, 12:00:00.", "the site's, 12:00:00"),
        Key("gpus", "N", "GPUs on each node; 0 for none.", "the template's: 0, 1, or 2 for pytorch-ddp"),
        Key("nodes", "N", "How many nodes.", "1", only=("pytorch-ddp",)),
        Key("cpus", "N", "CPU cores on each node.", "4 for each GPU"),
        Key("mem", "SIZE", "Memory on each node: 16G.", "16G for each GPU"),
        Key("partition", "NAME", "The partition.", "the site's, or the cluster's own"),
        Key("account", "NAME", "The account that is charged.", "none"),
        Key("qos", "NAME", "The quality of service.", "none"),
        Key("exclude", "NODES", "Nodes that are not to be used.", "none"),
        Key("array", "TASKS", "A job array, as 1-8 or 0-15%4: each task is a chain of its own.", "none"),
        Key("output", "PATTERN", "The log, in sbatch's patterns.", "%x_%j.out, in an array %x_%A_%a.out"),
        Key(
            "container",
            "KIND",
            "none, singularity, apptainer or pyxis (with enroot).",
            "the site's usual one; with an image not none",
        ),
        Key("image", "PATH", "The container's image.", "the site's for this framework"),
        Key("venv", "FOLDER", "A virtual environment, in a container one that was made in it.", "none", never=("command",)),
        Key("conda", "NAME", "A conda environment, in a container its folder.", "none"),
        Key(
            "checkpoint", "PATH", "Where checkpoints appear; in an array %a is the task.", "checkpoints, in an array checkpoints/%a"
        ),
        Key("program", "PATH", "A training program of your own; none is written then.", "train.py, written", never=("command",)),
        Key("args", "WORDS", "Further words for the training program, split as a shell would.", "none", never=("command",)),
        Key("command", "WORDS", "What is to run, split as a shell would.", "./my_program", only=("command",)),
        Key("resume-flag", "TEXT", "Appended when resuming: --resume {checkpoint}.", "none"),
        Key("ckptrun", "PATH", "ckptrun itself, where it is not on the job's PATH.", "ckptrun"),
    )
}


def keys_of(template: Template) -> tuple[Key, ...]:
    """Return what can be set in a template."""
    return tuple(key for key in KEYS.values() if (not key.only or template.name in key.only) and template.name not in key.never)
