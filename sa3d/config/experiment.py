"""Types, bounds and descriptions of everything in ``params.yaml``.

The values of experiments stand in ``params.yaml``; this module says what they may be. All
models are frozen and refuse unknown keys. Importing it costs no torch: the flows and the
command line's ``--help`` depend on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from sa3d import registry
from sa3d.errors import ConfigError
from sa3d.models.settings import DEFAULT, BackboneConfig, Frozen, PointMAEConfig, Positive

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Precision = Literal["fp32", "bf16"]


def _known(table: Callable[[], Mapping[str, object]], kind: str) -> AfterValidator:
    """Refuses a name that is not registered; a ``ValueError``, so that the key is told too."""

    def check(name: str) -> str:
        try:
            return registry.require(table(), kind, name)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


MaskName = Annotated[str, _known(lambda: registry.MASKS, "mask strategy")]
Augmentation = Annotated[str, _known(lambda: registry.AUGMENTATIONS, "augmentation")]
TaskName = Annotated[str, _known(registry.downstream, "task")]


# --- data sources ------------------------------------------------------------------------


class ShapesSource(Frozen):
    """Parametric objects generated from a seed; needs no download."""

    source: Literal["shapes"] = Field("shapes", description="generated; this kind of source")
    seed: int = Field(0, ge=0, description="seed of every random proportion, yaw and noise")
    shapes_per_class: int = Field(120, ge=5, description="clouds of each category")
    points: int = Field(2048, ge=64, description="points a cloud")
    noise: float = Field(0.01, ge=0.0, le=0.1, description="s.d. of sensor noise, in radii")
    test_fraction: Fraction = Field(0.2, description="share of each class held out as test")


class KicadSource(Frozen):
    """CAD models of electronic components (KiCad's ``3dmodels``)."""

    source: Literal["kicad"] = Field("kicad", description="KiCad's models; this kind of source")
    root: str = Field(
        "data/raw/kicad",
        description="folder with the kicad-packages3d .deb or *.3dshapes folders, or the .deb",
    )
    seed: int = Field(0, ge=0, description="seed of surface sampling and of the family split")
    points: int = Field(8192, ge=64, description="points sampled on each surface, by area")
    min_shapes: int = Field(40, ge=2, description="classes with fewer shapes are left out")
    test_fraction: Fraction = Field(
        0.2, description="share of each class held out as test, whole families"
    )


Source = Annotated[ShapesSource | KicadSource, Field(discriminator="source")]


# --- an experiment -----------------------------------------------------------------------


class DataConfig(Frozen):
    """Which processed data set, and how much of each cloud is used."""

    name: str = Field(description="key under `datasets` in params.yaml")
    points: Positive = Field(1024, description="points N drawn from each stored cloud")
    val_fraction: Fraction = Field(
        0.1, description="share of the training split carved out for selection"
    )


def _of_its_backbone(values: object) -> object:
    """A `model` section read as the settings of the backbone that it names."""
    if not isinstance(values, Mapping):
        return values
    try:
        kind = settings_class(values)
    except ConfigError as error:
        wrong = PydanticCustomError("backbone", "{said}", {"said": str(error)})
        line = InitErrorDetails(type=wrong, loc=("backbone",), input=values["backbone"])
        raise ValidationError.from_exception_data("model", [line]) from None
    return kind.model_validate(values)


def settings_class(model: Mapping[str, Any]) -> type[BackboneConfig]:
    """The settings of the backbone that a `model` section names; Point-MAE's where it names none.

    Raises:
        ConfigError: it is not registered.
    """
    name = str(model.get("backbone", DEFAULT))
    registry.require(registry.BACKBONES, "backbone", name)
    found: type[BackboneConfig] = registry.load_at(registry.BACKBONES[name].settings)
    return found


# Whatever is not a backbone's own code reads what BackboneConfig names, and no more.
ModelConfig = Annotated[SerializeAsAny[BackboneConfig], BeforeValidator(_of_its_backbone)]

PointTerm = Literal["teacher_decoded_nograd", "teacher_decoded_grad", "ground_truth_grad"]


class OptimConfig(Frozen):
    """Optimiser and schedule, shared by pre-training and fine-tuning."""

    epochs: Positive = Field(description="passes over the training split")
    batch_size: Positive = Field(description="clouds a step, a process")
    accumulate: Positive = Field(1, description="batches summed into one optimiser step")
    lr: float = Field(gt=0.0, description="peak learning rate of AdamW")
    min_lr: float = Field(0.0, ge=0.0, description="learning rate at the end of the cosine")
    warmup_epochs: float = Field(
        0.0, ge=0.0, description="linear warm-up from 0, per iteration, in epochs"
    )
    cosine_epochs: int | None = Field(
        None, gt=0, description="epoch at which the cosine reaches `min_lr`; null: the last one"
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="AdamW's betas")
    weight_decay: float = Field(0.05, ge=0.0, description="none on 1-D parameters and tokens")
    clip: float | None = Field(None, gt=0.0, description="largest global gradient norm")
    precision: Precision = Field("fp32", description="bf16: autocast; losses stay fp32")
    augment: Augmentation = Field(
        "scale_translate",
        description="transform of training clouds: none, scale_translate, rotate_y",
    )

    @model_validator(mode="after")
    def _warmup_within(self) -> OptimConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} leaves nothing of epochs={self.epochs}"
            )
        if self.cosine_epochs is not None and self.cosine_epochs < self.epochs:
            raise ValueError(
                f"cosine_epochs={self.cosine_epochs} ends before epochs={self.epochs}; "
                "give as many or more"
            )
        return self


class EmaConfig(Frozen):
    """Decay of the EMA teacher: linear from `start` to `end` over `ramp_epochs`."""

    start: float = Field(0.999, ge=0.0, lt=1.0, description="decay of the first step")
    end: float = Field(0.9999, ge=0.0, lt=1.0, description="decay after the ramp")
    ramp_epochs: Positive = Field(100, description="epochs from `start` to `end`")


class PretrainConfig(OptimConfig):
    """Self-supervised pre-training: method, masking, losses."""

    method: Literal["mae", "sa3d", "sa3df"] = Field(
        description="mae: plain masked autoencoder; sa3d: + geometric complexity; "
        "sa3df: + feature distillation from a frozen knowledge teacher"
    )
    mask: MaskName = Field(description="mask strategy: random, block, gc")
    mask_ratio: float | None = Field(
        None, gt=0.0, lt=1.0, description="share of patches masked (or give `masked`)"
    )
    masked: int | None = Field(None, gt=0, description="exact number of masked patches")
    end_ratio: float = Field(
        0.5, ge=0.0, le=1.0, description="share of the mask chosen by hardness at the end"
    )
    half_schedule: bool = Field(
        False, description="the curriculum reaches its end after half of the epochs"
    )
    gc_depth: Positive = Field(12, description="blocks of the GC predictor (sa3d: 4)")
    gc_loss: Literal["relative", "absolute"] = Field("relative", description="ranking or MSE")
    shared_mask_token: bool = Field(
        False, description="the GC predictor uses the decoder's mask token"
    )
    point_term: PointTerm | None = Field(
        None,
        description="null: teacher_decoded_nograd for sa3df on a backbone that can decode "
        "features alone, else ground_truth_grad",
    )
    feature_weight: float = Field(13.889, ge=0.0, description="from `switch_epoch` on; 1 before")
    point_weight: float = Field(1000.0, ge=0.0, description="from `switch_epoch` on; 1 before")
    gc_weight: float = Field(1.0, ge=0.0, description="weight of the GC loss")
    switch_epoch: int = Field(15, ge=0, description="first 0-based epoch with the full weights")
    ema: EmaConfig = Field(EmaConfig(), description="the teacher that scores patches")

    @model_validator(mode="after")
    def _consistent(self) -> PretrainConfig:
        if (self.mask_ratio is None) == (self.masked is None):
            raise ValueError(
                f"give exactly one of mask_ratio={self.mask_ratio} and masked={self.masked}; "
                "set the other to null"
            )
        if self.method == "mae" and self.mask == "gc":
            raise ValueError("mask=gc needs a GC predictor: method sa3d or sa3df, not mae")
        if self.method != "sa3df" and self.point_term in (
            "teacher_decoded_nograd",
            "teacher_decoded_grad",
        ):
            raise ValueError(f"point_term={self.point_term} needs method=sa3df (a teacher)")
        return self

    def masked_of(self, groups: int) -> int:
        """Masked patches M of ``groups`` patches.

        A ratio is turned into an integer as the method's own code does: SA3D floors the
        visible count (64 at 0.6: 39 masked), Point-MAE floors the masked count (38).
        """
        if self.masked is not None:
            count = self.masked
        else:
            assert self.mask_ratio is not None
            # + 1e-9: 64 * (1 - 0.75) must floor to 16 whatever the last bit says
            count = (
                int(groups * self.mask_ratio + 1e-9)
                if self.method == "mae"
                else groups - int(groups * (1.0 - self.mask_ratio) + 1e-9)
            )
        return count


class SvmConfig(Frozen):
    """Linear SVM on frozen features. Test is read once, with C chosen on the training split."""

    official_c: float = Field(0.01, gt=0.0, description="the published C, reported alongside")
    c_grid: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        (0.001, 0.01, 0.1, 1.0), description="C is chosen among these by cross-validation"
    )
    folds: int = Field(3, ge=2, description="folds of that cross-validation")
    batch_size: Positive = Field(64, description="clouds a forward pass")


class ClassifyConfig(OptimConfig):
    """Fine-tuned classification (or from scratch)."""

    layer_decay: float = Field(
        1.0, gt=0.0, le=1.0, description="lr factor from one block to the one below it"
    )
    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of each label spread over all classes"
    )
    dropout: float = Field(0.5, ge=0.0, lt=1.0, description="in the classification head")
    pooling: str | None = Field(
        None,
        description="tokens to one feature: one of the backbone's `poolings`; null: its first",
    )
    test_every_epoch: bool = Field(
        False, description="also read test each epoch, for the labelled `best-on-test` extra"
    )


class ExperimentConfig(Frozen):
    """One experiment: pre-training, its baseline, and the downstream tasks on both."""

    name: str = Field(description="key under `experiments` in params.yaml")
    description: str = Field("", description="one line for people")
    seed: int = Field(0, ge=0, description="of weights, batches, masks and splits")
    data: DataConfig = Field(description="the clouds")
    model: ModelConfig = Field(PointMAEConfig(), description="the backbone")
    pretrain: PretrainConfig = Field(description="the method under test")
    baseline: PretrainConfig | None = Field(
        None,
        description="random masks: the comparison, and sa3df's knowledge teacher; in "
        "params.yaml only what differs from `pretrain`",
    )
    svm: SvmConfig = Field(SvmConfig(), description="the task `svm`")
    classify: ClassifyConfig = Field(description="the task `classify`")
    tasks: tuple[TaskName, ...] = Field(("svm", "classify"), description="downstream tasks")
    scratch: bool = Field(True, description="also run the tasks from random weights")

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentConfig:
        if self.pretrain.method == "sa3df" and self.baseline is None:
            raise ValueError("pretrain.method=sa3df needs `baseline`: its knowledge teacher")
        if self.baseline is not None and self.baseline.method != "mae":
            raise ValueError(f"baseline.method={self.baseline.method} must be mae")
        for key, stage in (("pretrain", self.pretrain), ("baseline", self.baseline)):
            patches = self.model.num_tokens
            if stage is not None and not 0 < stage.masked_of(patches) < patches:
                raise ValueError(
                    f"{key} masks {stage.masked_of(patches)} of {patches} patches; at least one "
                    "must stay visible and one masked"
                )
        for key, stage in (("pretrain", self.pretrain), ("baseline", self.baseline)):
            term = stage and stage.point_term
            if term not in (None, "ground_truth_grad") and not self.model.decodes_features:
                raise ValueError(
                    f"{key}.point_term={term} needs a decoder that reads features alone, which "
                    f"model.backbone={self.model.backbone} has not; use ground_truth_grad"
                )
        if self.classify.pooling not in (None, *self.model.poolings):
            raise ValueError(
                f"classify.pooling={self.classify.pooling}: model.backbone="
                f"{self.model.backbone} pools by {', '.join(self.model.poolings)}"
            )
        if self.model.least_points > self.data.points:
            raise ValueError(
                f"the patches of `model` need clouds of {self.model.least_points} points, "
                f"data.points={self.data.points}"
            )
        return self

    def stage(self, arm: str) -> PretrainConfig:
        """The pre-training settings of ``arm``, ``"baseline"``, else the method's own, with
        `point_term` resolved."""
        found = self.pretrain
        if arm == "baseline":
            assert self.baseline is not None
            found = self.baseline
        if found.point_term is not None:
            return found
        decoded = found.method == "sa3df" and self.model.decodes_features
        term: PointTerm = "teacher_decoded_nograd" if decoded else "ground_truth_grad"
        return found.model_copy(update={"point_term": term})

    @property
    def pooling(self) -> str:
        """`classify.pooling`, or the backbone's own."""
        return self.classify.pooling or self.model.poolings[0]

    def dotted(self) -> dict[str, Any]:
        """Flat ``section.key`` view, for logging."""
        flat: dict[str, Any] = {}

        def walk(prefix: str, value: Any) -> None:
            if isinstance(value, dict):
                for key, inner in value.items():
                    walk(f"{prefix}.{key}" if prefix else key, inner)
            else:
                flat[prefix] = value

        walk("", self.model_dump(mode="json"))
        return flat
