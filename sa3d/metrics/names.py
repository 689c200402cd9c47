"""Every metric's name, once: the tasks and methods that log, and the report, use these.

One slash makes a section in MLflow's charts; the same key in all runs that shall be compared.
"""

from __future__ import annotations

from typing import Final

RESULT_NEUTRAL: Final = True

EPOCH: Final = (
    "epoch"  # with a fraction, beside every point of training: an axis for MLflow's charts
)
LOSS: Final = "train/loss"
LR: Final = "train/lr"
GRAD_NORM: Final = "train/grad_norm"
SAMPLES_PER_SECOND: Final = "train/samples_per_second"
DATA_WAIT: Final = "train/data_wait"  # share of the training time spent waiting for batches
NONFINITE: Final = "train/nonfinite"
FEATURE: Final = "train/feature_loss"  # before weighting
POINT: Final = "train/point_loss"  # before weighting
GC: Final = "train/gc_loss"
TRAIN_ACC: Final = "train/acc"

HARD: Final = "curriculum/hard_patches"
HARD_SHARE: Final = "curriculum/hard_share"
EMA_DECAY: Final = "curriculum/ema_decay"

VAL_ACC: Final = "val/acc"
VAL_LOSS: Final = "val/loss"
VAL_MIOU: Final = "val/miou_instance"
VAL_MIOU_CATEGORY: Final = "val/miou_category"

# the headline: val-selected (classify), C by cross-validation (svm), last epoch (fewshot)
TEST_ACC: Final = "test/acc"
TEST_LAST: Final = "test/acc_last"
TEST_VAL_SELECTED: Final = "test/acc_val_selected"
TEST_BEST: Final = "test/acc_best_on_test"  # a labelled extra, never the headline
TEST_OFFICIAL_C: Final = "test/acc_official_c"
TEST_EPOCH: Final = "test/acc_by_epoch"  # only where the config asks for the extra above
MEAN_CLASS_ACC: Final = "test/mean_class_acc"
VOTE_MEAN: Final = "test/vote_mean"  # over the passes of the published voting
VOTE_SD: Final = "test/vote_sd"
VOTE_MAX: Final = "test/vote_max"  # a labelled extra, never the headline

# part segmentation: `instance` is the mean over clouds, `category` over categories
TEST_MIOU: Final = "test/miou_instance"  # the headline
TEST_MIOU_LAST: Final = "test/miou_instance_last"
TEST_MIOU_BEST: Final = "test/miou_instance_best_on_test"  # a labelled extra, never the headline
TEST_MIOU_EPOCH: Final = "test/miou_instance_by_epoch"  # only where the extra above is asked for
TEST_MIOU_CATEGORY: Final = "test/miou_category"  # of the weights of the headline
TEST_MIOU_CATEGORY_LAST: Final = "test/miou_category_last"
TEST_MIOU_CATEGORY_BEST: Final = "test/miou_category_best_on_test"  # of TEST_MIOU_BEST's epoch
TEST_MIOU_CATEGORY_EPOCH: Final = "test/miou_category_by_epoch"  # as TEST_MIOU_EPOCH
TEST_POINT_ACC: Final = "test/point_acc"
TEST_POINT_ACC_LAST: Final = "test/point_acc_last"
