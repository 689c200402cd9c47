"""The plan of an experiment: its nodes, and which of them need which others. Nothing is read or
written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.runs.config import RunConfig, runs_of

Kind = Literal["pretrain", "register", "evaluate"]


@dataclass(frozen=True)
class Node:
    """One step of an experiment: a run, or the registration of a run's model.

    Attributes:
        name: unique in a plan; that of the run, or ``register-<variant>-s<seed>``.
        kind: what is done.
        run: the run; of a registration, the pre-training whose model is registered.
        needs: names of the nodes that must be done before.
    """

    name: str
    kind: Kind
    run: RunConfig
    needs: tuple[str, ...] = ()


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

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Pairs of a node and one that needs it."""
        return [(needed, node.name) for node in self.nodes for needed in node.needs]

    @property
    def leaves(self) -> list[str]:
        """The nodes that no other needs."""
        inner = {needed for needed, _ in self.edges}
        return [node.name for node in self.nodes if node.name not in inner]


def plan(config: ExperimentConfig, *, register: bool = True) -> Plan:
    """The plan of an experiment: pre-trainings, registrations, evaluations.

    Args:
        config: the experiment.
        register: whether pre-trained models are registered.

    Raises:
        ConfigError: two nodes would have one name.
    """
    runs = runs_of(config)
    pretrainings = [run for run in runs if run.spec.task == registry.PRETRAIN]
    nodes = [_node("pretrain", run) for run in pretrainings]
    nodes += [
        Node(f"register-{run.spec.variant}-s{run.spec.seed}", "register", run, (run.spec.name,))
        for run in pretrainings
        if register
    ]
    nodes += [_node("evaluate", run) for run in runs if run.spec.task != registry.PRETRAIN]
    return Plan(tuple(nodes))


def _node(kind: Kind, run: RunConfig) -> Node:
    return Node(run.spec.name, kind, run, tuple(spec.name for spec in run.spec.needs))
