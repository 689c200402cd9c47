"""The drop-in names: conventions of the originals, checked by hand-written expectations."""

import importlib
import importlib.metadata
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from point_ops_cases import cloud

pytest.importorskip("point_ops_compat", reason="the drop-in names are not installed")
import chamfer
import chamfer_dist
import emd
import emd_cuda
import knn_cuda
import point_ops_compat
from pointnet2_ops import pointnet2_modules, pointnet2_utils


def test_channel_first_gather_and_group():
    features = torch.arange(8.0).view(1, 2, 4).requires_grad_()
    idx = torch.tensor([[3, 0]], dtype=torch.int32)
    out = pointnet2_utils.gather_operation(features, idx)
    assert out.tolist() == [[[3, 0], [7, 4]]]
    assert out.is_contiguous()
    out.sum().backward()
    assert features.grad.tolist() == [[[1, 0, 0, 1], [1, 0, 0, 1]]]
    grouped = pointnet2_utils.grouping_operation(features, idx.view(1, 2, 1))
    assert grouped.shape == (1, 2, 2, 1)
    assert grouped[0, :, :, 0].tolist() == [[3, 0], [7, 4]]


def test_three_nn_gives_distances_not_squared():
    known = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [9, 0, 0], [4, 0, 0]]])
    distance, idx = pointnet2_utils.three_nn(torch.tensor([[[1.0, 0, 0]]]), known)
    assert distance.tolist() == [[[1, 2, 3]]]
    assert idx.tolist() == [[[0, 1, 3]]]
    assert idx.dtype == torch.int32
    features = torch.tensor([[[10.0, 20, 30, 40]]])
    out = pointnet2_utils.three_interpolate(features, idx, torch.tensor([[[0.5, 0.25, 0.25]]]))
    assert out.tolist() == [[[20.0]]]


def test_ball_query_has_the_originals_argument_order():
    points = torch.tensor([[[5.0, 0, 0], [0.1, 0, 0], [0, 0.2, 0]]])
    idx = pointnet2_utils.ball_query(1.0, 3, points, torch.zeros(1, 1, 3))
    assert idx.tolist() == [[[1, 2, 1]]]
    assert idx.dtype == torch.int32


def test_query_and_group_is_relative_to_the_centre():
    points, centers = cloud(2, 30), cloud(2, 4, seed=1)
    features = torch.rand(2, 6, 30)
    out = pointnet2_utils.QueryAndGroup(1.0, 5)(points, centers, features)
    assert out.shape == (2, 9, 4, 5)
    idx = pointnet2_utils.ball_query(1.0, 5, points, centers).long()
    torch.testing.assert_close(out[1, :3, 2, 3], points[1, idx[1, 2, 3]] - centers[1, 2])
    torch.testing.assert_close(out[1, 3:, 2, 3], features[1, :, idx[1, 2, 3]])
    bare = pointnet2_utils.QueryAndGroup(1.0, 5, use_xyz=False)(points, centers, features)
    assert bare.shape == (2, 6, 4, 5)
    assert pointnet2_utils.GroupAll()(points, None, features).shape == (2, 9, 1, 30)


def test_modules_run_and_keep_their_parameter_names():
    points, features = cloud(2, 64), torch.rand(2, 5, 64)
    down = pointnet2_modules.PointnetSAModule(mlp=[5, 8, 16], npoint=12, radius=0.8, nsample=6)
    assert {"mlps.0.0.weight", "mlps.0.1.running_mean", "mlps.0.3.weight"} <= set(down.state_dict())
    centers, pooled = down(points, features)
    assert centers.shape == (2, 12, 3)
    assert pooled.shape == (2, 16, 12)
    up = pointnet2_modules.PointnetFPModule(mlp=[21, 7])
    assert up(points, centers, features, pooled).shape == (2, 7, 64)
    whole = pointnet2_modules.PointnetSAModule(mlp=[5, 8])
    assert whole(points, features)[1].shape == (2, 8, 1)


@pytest.mark.parametrize("transpose_mode", [True, False])
def test_knn_cuda_layouts(transpose_mode):
    points = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]])
    query = torch.tensor([[[0.0, 0, 0], [0, 4, 0]]])
    if not transpose_mode:
        points, query = points.transpose(1, 2), query.transpose(1, 2)
    distance, idx = knn_cuda.KNN(k=2, transpose_mode=transpose_mode)(points, query)
    if not transpose_mode:
        assert distance.shape == (1, 2, 2)
        distance, idx = distance.transpose(1, 2), idx.transpose(1, 2)
    assert distance.tolist() == [[[0, 3], [0, 4]]]
    assert idx.tolist() == [[[0, 1], [2, 0]]]
    assert idx.dtype == torch.int64
    flat = knn_cuda.knn(
        points[0].t() if transpose_mode else points[0],
        query[0].t() if transpose_mode else query[0],
        2,
    )
    assert flat[1].tolist() == [[0, 2], [1, 0]]


def test_chamfer_module_and_classes():
    a, b = cloud(2, 9).requires_grad_(), cloud(2, 7, seed=2).requires_grad_()
    d1, d2, i1, i2 = chamfer.forward(a, b)
    assert i1.dtype == i2.dtype == torch.int32
    assert not d1.requires_grad
    grads = chamfer.backward(a, b, i1, i2, torch.full_like(d1, 1 / 18), torch.full_like(d2, 1 / 14))
    loss = chamfer_dist.ChamferDistanceL2()(a, b)
    torch.testing.assert_close(loss, d1.mean() + d2.mean())
    for one, other in zip(grads, torch.autograd.grad(loss, (a, b)), strict=True):
        torch.testing.assert_close(one, other)
    split = chamfer_dist.ChamferDistanceL2_split()(a, b)
    torch.testing.assert_close(sum(split), loss)
    l1 = chamfer_dist.ChamferDistanceL1()(a, b)
    torch.testing.assert_close(l1, (d1.sqrt().mean() + d2.sqrt().mean()) / 2)


def test_chamfer_ignore_zeros_drops_the_padding_of_a_single_cloud():
    a = torch.tensor([[[1.0, 0, 0], [0, 0, 0]]])
    b = torch.tensor([[[2.0, 0, 0], [0, 0, 0]]])
    assert chamfer_dist.ChamferDistanceL2()(a, b).item() == 1.0
    assert chamfer_dist.ChamferDistanceL2(ignore_zeros=True)(a, b).item() == 2.0


def test_emd_cuda_costs_squared_distances():
    a = torch.tensor([[[0.0, 0, 0], [10, 0, 0]]])
    b = torch.tensor([[[10.0, 2, 0], [0, 0, 3]]])
    match = emd_cuda.approxmatch_forward(a, b)
    torch.testing.assert_close(match, torch.tensor([[[0.0, 1], [1, 0]]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        emd_cuda.matchcost_forward(a, b, match), torch.tensor([13.0]), rtol=1e-2, atol=0
    )
    one, two = emd_cuda.matchcost_backward(torch.ones(1), a, b, match)
    torch.testing.assert_close(one, torch.tensor([[[0.0, 0, -6], [0, -4, 0]]]), atol=0.05, rtol=0)
    torch.testing.assert_close(two, torch.tensor([[[0.0, 4, 0], [0, 0, 6]]]), atol=0.05, rtol=0)
    cost = emd.earth_mover_distance(a.transpose(1, 2), b.transpose(1, 2))
    torch.testing.assert_close(cost, emd.EarthMoverDistance()(a, b))
    torch.testing.assert_close(cost, torch.tensor([13.0]), rtol=1e-2, atol=0)


def test_a_rival_on_the_path_is_announced(tmp_path, monkeypatch):
    (tmp_path / "chamfer.cpython-311-x86_64-linux-gnu.so").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.warns(RuntimeWarning, match="provides the same name"):
        importlib.reload(chamfer)


def test_a_rival_distribution_is_announced(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(
        point_ops_compat.metadata,
        "version",
        lambda name: "3.0.0" if name == "pointnet2_ops" else real(name),
    )
    with pytest.warns(RuntimeWarning, match=r"pointnet2_ops 3\.0\.0"):
        point_ops_compat.claim("pointnet2_ops", pointnet2_utils.__file__)


def test_alone_there_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(chamfer)


@pytest.fixture
def path_only(monkeypatch):
    """Names are looked up on sys.path, not among the modules of this process."""
    for name in point_ops_compat.ORIGINALS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return monkeypatch


@pytest.mark.usefixtures("path_only")
def test_check_is_silent_when_all_names_are_ours():
    assert point_ops_compat.check() == []


def test_check_names_a_package_found_earlier(tmp_path, path_only):
    (tmp_path / "pointnet2_ops").mkdir()
    (tmp_path / "pointnet2_ops" / "__init__.py").write_text('__version__ = "3.0.0"\n')
    (tmp_path / "emd").mkdir()  # without __init__.py a regular package elsewhere comes before it
    path_only.syspath_prepend(tmp_path)
    (found,) = point_ops_compat.check()
    assert found == f"pointnet2_ops: answered by {tmp_path / 'pointnet2_ops' / '__init__.py'}"


def test_check_names_a_file_of_ours_that_was_overwritten(tmp_path, path_only):
    ours = Path(point_ops_compat.__file__).parent
    shutil.copy(ours / "chamfer.py", tmp_path)
    shutil.copytree(ours / "emd", tmp_path / "emd")
    path_only.syspath_prepend(tmp_path)
    assert point_ops_compat.check() == []
    (tmp_path / "emd" / "__init__.py").write_text("def earth_mover_distance(): ...\n")
    (tmp_path / "chamfer.cpython-311-x86_64-linux-gnu.so").touch()  # goes before a .py beside it
    importlib.invalidate_caches()
    found = point_ops_compat.check()
    assert [line.split(": answered by ")[0] for line in found] == ["chamfer", "emd"]
    assert found[0].endswith(".so")


def test_the_advice_puts_our_files_back(monkeypatch):
    monkeypatch.setattr(point_ops_compat, "rivals", lambda name, here: ["chamfer 2.0"])
    with pytest.warns(RuntimeWarning, match="Uninstall that one, then .* --force-reinstall"):
        point_ops_compat.claim("chamfer", chamfer.__file__)
