"""Losses of pre-training: one a file, every one in float32 whatever autocast says."""

from sa3d.losses.chamfer import patch_chamfer
from sa3d.losses.feature import feature_distance
from sa3d.losses.ranking import absolute_loss, ranking_loss

__all__ = ["absolute_loss", "feature_distance", "patch_chamfer", "ranking_loss"]
