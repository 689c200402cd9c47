"""What the report says of pre-training: its curves, and the clouds that explain the method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath

from sa3d.config.experiment import CheckpointVariant, ExperimentConfig
from sa3d.methods.curves import Curve
from sa3d.methods.settings import MethodConfig
from sa3d.metrics import names as keys
from sa3d.report.figures import Chart, Trained, curve
from sa3d.report.official import of_pretraining
from sa3d.report.results import Experiment, RunRecord
from sa3d.report.sections import Variant, variants_of
from sa3d.report.wording import listed, plural
from sa3d.utils.progress import duration
from sa3d.viz import explain as ex


@dataclass(frozen=True)
class Explaining:
    """The clouds that one run left to explain its method.

    Attributes:
        variant: whose.
        settings: of its method.
        run: the pre-training that left them.
        data: the clouds; None: there are none.
    """

    variant: Variant
    settings: MethodConfig
    run: RunRecord | None
    data: ex.Explained | None

    @property
    def guided(self) -> bool:
        """Whether any patch is masked for being hard."""
        return self.data is not None and self.data.gc is not None and bool(self.data.hard.any())

    @property
    def decoded_by_teacher(self) -> bool:
        """Whether its points are what its knowledge teacher decodes."""
        return self.run is not None and bool(self.run.protocol.get("teacher_decodes"))


def explaining(experiment: Experiment) -> Explaining | None:
    """Of the reference if it is pre-trained here, else of the first variant that is.

    Of several seeds the first that left a picture. None: nothing is pre-trained.
    """
    config = experiment.config
    methods = config.methods
    if not methods:
        return None
    inorder = [name for name in config.variants if name in methods]
    name = config.reference if config.reference in methods else inorder[0]
    variant = variants_of(config)[name]
    finished = [run for run in experiment.pretrainings(name) if run.finished]
    for run in finished:
        if run.folder is None:
            continue  # the folder's absence is told where it is read
        if not (run.folder / ex.FILE).is_file():
            experiment.problems.append(f"{run.name}: it left no {ex.FILE}")
            continue
        path = run.folder / ex.FILE
        data = experiment.attempt(f"{run.name}: picture", partial(ex.load_explain, path))
        if data is not None:
            return Explaining(variant, methods[name], run, data)
    return Explaining(variant, methods[name], None, None)


# what every method may log; its own curves come before these
SHARED = (
    Curve(
        "point_loss",
        keys.POINT,
        "Point loss",
        "Chamfer distance between rebuilt and target points; before weighting.",
        log=True,
    ),
    Curve(
        "loss",
        keys.LOSS,
        "Training loss",
        "The weighted sum that is minimised. Methods weight their terms differently, so compare a "
        "line with itself only.",
        log=True,
        ends=False,
    ),
    Curve("learning_rate", keys.LR, "Learning rate", "As logged.", ends=False),
)


def curves(experiment: Experiment) -> list[Chart]:
    """Everything that the journals of pre-training tell, for all variants and seeds."""
    variants = variants_of(experiment.config)
    trained = [
        Trained(variants[name], experiment.pretrainings(name), method.epochs)
        for name, method in experiment.config.methods.items()
    ]
    drawn = [
        experiment.attempt(each.title, partial(_drawn, each, trained, experiment.config))
        for each in (*_declared(experiment.config.methods.values()), *SHARED)
    ]
    return [item for item in drawn if item is not None]


def _declared(methods: Iterable[MethodConfig]) -> list[Curve]:
    """The curves that the methods declare, those of one metric in one chart."""
    found: dict[str, Curve] = {}
    for each in (each for method in methods for each in method.curves):
        known = found.setdefault(each.metric, each)
        if known.reference != each.reference:
            found[each.metric] = replace(known, reference=None)
    return list(found.values())


def _drawn(each: Curve, trained: Sequence[Trained], config: ExperimentConfig) -> Chart | None:
    caption, line = each.caption, None
    if each.reference is not None:
        caption += f" {each.reference.words}"
        line = (each.reference.label, each.reference.value)
    if each.metric == keys.POINT:
        decoded = [
            one.variant.label
            for one in trained
            if any(run.protocol.get("teacher_decodes") for run in one.runs)
        ]
        if decoded:
            caption += f" The target of {listed(decoded)} is what the knowledge teacher decodes, "
            caption += "otherwise it is the cloud itself."
    return curve(
        f"pretrain-{each.key}", each.title, caption, each.metric, trained,
        ends=each.ends, log=each.log, line=line, steps=each.steps,
        official=of_pretraining(config, each.metric),
    )  # fmt: skip


def told(experiment: Experiment) -> list[str]:
    """How every variant came to its encoder, in sentences."""
    config, variants = experiment.config, variants_of(experiment.config)
    said = []
    for name, variant in variants.items():
        settings = config.variants[name]
        if isinstance(settings, MethodConfig):
            said.append(_method(experiment, variant, settings))
        elif isinstance(settings, CheckpointVariant):
            path = PurePath(settings.checkpoint)
            shown = path if not path.is_absolute() else PurePath(*path.parts[-2:])
            whose = f", the published weights of {settings.published}" if settings.published else ""
            said.append(f"{variant.label}: pre-trained elsewhere; it starts from {shown}{whose}.")
        else:
            said.append(
                f"{variant.label}: not pre-trained; the seed of each run draws its weights."
            )
    return said


def _method(experiment: Experiment, variant: Variant, settings: MethodConfig) -> str:
    runs = experiment.pretrainings(variant.name)
    finished = [run for run in runs if run.finished]
    text = f"{variant.label}: {settings.epochs} epochs of {settings.method} with "
    text += f"{settings.mask.name} masks, {plural(len(runs), 'seed')}"
    if len(finished) < len(runs):
        text += f", of which {len(finished)} finished"
    seconds = [run.seconds for run in finished if run.seconds]
    if seconds:
        text += f"; {duration(sum(seconds) / len(seconds))}" + (
            " a seed on average" if len(seconds) > 1 else ""
        )
    teacher = experiment.config.teacher_of(variant.name)
    if teacher is not None:
        name = variants_of(experiment.config)[teacher].label
        text += f". Its frozen knowledge teacher is {name}, so that it costs both"
    return f"{text}."
