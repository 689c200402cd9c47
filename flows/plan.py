"""The plan of one or several experiments: its nodes, and which of them need which others.

Nothing is read or written here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.runs.config import RunConfig, runs_of
from sa3d.runs.spec import RunSpec

Kind = Literal["pretrain", "register", "evaluate"]


@dataclass(frozen=True)
class Node:
    """One step of an experiment: a run, or the registration of a run's model.

    Attributes:
        name: unique in a plan; that of the run, or ``register-<variant>-s<seed>``; in a plan of
            several experiments that have such a node and mean different ones, after the name of
            the experiment and a slash.
        kind: what is done.
        run: the run; of a registration, the pre-training whose model is registered.
        needs: names of the nodes that must be done before.
        experiments: names of those that it is part of.
    """

    name: str
    kind: Kind
    run: RunConfig
    needs: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()

    @property
    def local(self) -> str:
        """The name within its experiment."""
        return _local(self.kind, self.run)

    def needed(self, spec: RunSpec) -> str:
        """The node of a run that this one starts from."""
        return dict(zip(self.run.spec.needs, self.needs, strict=True))[spec]


@dataclass(frozen=True)
class Plan:
    """A directed acyclic graph of nodes.

    Attributes:
        nodes: in order of priority, each after those that it needs.
    """

    nodes: tuple[Node, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Every node, in the same order."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of every node in the order of priority."""
        return {node.name: place for place, node in enumerate(self.nodes)}

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Pairs of a node and one that needs it."""
        return [(needed, node.name) for node in self.nodes for needed in node.needs]

    @property
    def leaves(self) -> list[str]:
        """The nodes that no other needs."""
        inner = {needed for needed, _ in self.edges}
        return [node.name for node in self.nodes if node.name not in inner]


def plan(*configs: ExperimentConfig, register: bool = True) -> Plan:
    """The plan of experiments: pre-trainings, registrations, evaluations.

    What several of them have in common is one node.

    Args:
        configs: the experiments, each with a name of its own.
        register: whether pre-trained models are registered.

    Raises:
        ConfigError: two nodes would have one name.
    """
    shared: dict[str, list[RunConfig]] = {}  # the same run in several experiments
    needs: dict[str, list[str]] = {}
    for config in configs:
        known: dict[RunSpec, str] = {}  # of this experiment
        for run in runs_of(config):  # each after those that it needs
            before = [known[spec] for spec in run.spec.needs]
            identity = known[run.spec] = _identity(run, before)
            shared.setdefault(identity, []).append(run)
            needs[identity] = before
    names = _names(shared)
    order: dict[Kind, list[Node]] = {"pretrain": [], "register": [], "evaluate": []}
    for identity, runs in shared.items():
        run, within = runs[0], tuple(each.experiment for each in runs)
        kind: Kind = "pretrain" if run.spec.task == registry.PRETRAIN else "evaluate"
        name, before = names[identity], [names[each] for each in needs[identity]]
        order[kind].append(Node(name, kind, run, tuple(before), within))
        if kind == "pretrain" and register:
            beside = name.replace(run.spec.name, _local("register", run))
            order["register"].append(Node(beside, "register", run, (name,), within))
    return Plan(tuple(node for nodes in order.values() for node in nodes))


def _identity(run: RunConfig, needs: Sequence[str]) -> str:
    """Equal for runs that have one fingerprint, whatever the data, code and models are."""
    spec = run.spec
    own = [spec.task, spec.variant, spec.data, spec.label, spec.seed, spec.fold, *needs]
    paths = [each for each in (spec.start, spec.teacher) if isinstance(each, str)]
    return json.dumps([own, paths, run.deciding()], sort_keys=True)


def _local(kind: Kind, run: RunConfig) -> str:
    spec = run.spec
    return f"register-{spec.variant}-s{spec.seed}" if kind == "register" else spec.name


def _names(shared: Mapping[str, list[RunConfig]]) -> dict[str, str]:
    """A name for every run: its own, if no other has it."""
    own = Counter(runs[0].spec.name for runs in shared.values())
    return {
        identity: runs[0].spec.name
        if own[runs[0].spec.name] == 1
        else f"{runs[0].experiment}/{runs[0].spec.name}"
        for identity, runs in shared.items()
    }
