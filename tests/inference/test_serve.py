"""The service: what it answers, and what it refuses in one line."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from sa3d.errors import UserError
from sa3d.inference.classes import ClassPredictor
from sa3d.inference.indexing import build_index
from sa3d.inference.loading import Loaded, load_model
from sa3d.inference.parts import PartPredictor
from sa3d.service.app import build, is_loopback
from sa3d.service.limits import Limits
from sa3d.service.neighbours import Neighbours
from sa3d.service.run import serve
from tests.small_models import CLASSES, PARTS, saved

LIMITS = Limits(clouds=4, points=500, size=60_000, waiting=2, seconds=0.3)
NPY = {"content-type": "application/octet-stream"}
TETRAHEDRON = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_model(saved(tmp_path_factory.mktemp("classes"), "classifier", "point-mae"))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_model(saved(tmp_path_factory.mktemp("parts"), "segmenter", "point-m2ae"))


def client_of(model: Loaded) -> TestClient:
    return TestClient(build(model, LIMITS, ()), base_url="http://127.0.0.1")


@pytest.fixture
def client(classifier: Loaded) -> Iterator[TestClient]:
    with client_of(classifier) as found:
        yield found


def cloud(seed: int = 0, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


def npy(array: np.ndarray, **how: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


def test_json_npy_and_files_are_answered_as_in_python(
    client: TestClient, classifier: Loaded, tmp_path: Path
) -> None:
    assert isinstance(classifier, ClassPredictor)
    clouds = [cloud(0), cloud(1, 60)]
    wanted = classifier.predict(clouds)
    body = {"clouds": [each.tolist() for each in clouds]}
    found = client.post("/predict", json=body).json()["clouds"]
    assert [each["id"] for each in found] == ["0", "1"]
    assert [each["class"] for each in found] == list(wanted.classes)
    assert [list(each["probabilities"].values()) for each in found] == wanted.probabilities.tolist()
    assert list(found[0]["probabilities"]) == CLASSES

    pair = np.stack([cloud(0), cloud(2)]).astype(np.float32)
    found = client.post("/predict", content=npy(pair), headers=NPY, params={"up": "z"}).json()
    wanted = classifier.predict(pair, up="z")
    rows = [list(each["probabilities"].values()) for each in found["clouds"]]
    assert rows == wanted.probabilities.tolist()

    (tmp_path / "a.obj").write_bytes(TETRAHEDRON)
    np.save(tmp_path / "b.npy", cloud(3))
    files = [
        ("file", (f"../../{name}", (tmp_path / name).read_bytes())) for name in ("a.obj", "b.npy")
    ]
    found = client.post("/predict", files=files).json()["clouds"]
    wanted = classifier.predict([tmp_path / "a.obj", tmp_path / "b.npy"])
    assert [list(each["probabilities"].values()) for each in found] == wanted.probabilities.tolist()
    assert [each["id"] for each in found] == ["../../a.obj", "../../b.npy"]  # repeated, not opened


def test_parts_of_every_point_and_some_points_for_a_picture(segmenter: Loaded) -> None:
    assert isinstance(segmenter, PartPredictor)
    with client_of(segmenter) as client:
        answer = client.post(
            "/predict", content=npy(cloud()), headers=NPY, params={"category": "cup", "shown": 7}
        ).json()
        wanted = segmenter.predict(cloud(), category="cup").clouds[0].labels.tolist()
        (found,) = answer["clouds"]
        assert found["parts"] == wanted
        assert answer["part_names"] == PARTS
        assert len(found["shown"]["points"]) == 7
        assert found["shown"]["parts"] == [wanted[at] for at in (0, 6, 13, 20, 26, 32, 39)]
        assert max(map(max, found["shown"]["points"])) <= 1.0
        lacking = client.post("/predict", content=npy(cloud()), headers=NPY)
        assert lacking.status_code == 422
        assert "knows 3 categories" in lacking.json()["error"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "application/json", 422, "body: Invalid JSON"),
        (b'{"clouds": []}', "application/json", 422, "no cloud was sent"),
        (b'{"clouds": [[]]}', "application/json", 422, "cloud"),
        (b'{"clouds": [[[0, 0, 0], [0, 0, 0]]]}', "application/json", 422, "cloud"),
        (b'{"clouds": [[[1e300, 2, 3], [0, 0, 0]]]}', "application/json", 422,
         "a point too far away [1e+300, 2.0, 3.0] in row 0"),
        (b'{"clouds": [[[0, 1]]]}', "application/json", 422, "clouds[0][0][2]: Field required"),
        (b'{"clouds": [[[0, 1, "x"]]]}', "application/json", 422, "clouds[0][0][2]: "),
        (b'{"clouds": [[[0, 1, NaN]]]}', "application/json", 422, "clouds[0][0][2]: "),
        (b'{"clouds": [[[0, 1, 2]]], "path": "/etc"}', "application/json", 422, "path: Extra"),
        (b'{"clouds": [[[1,2,3]],[[1,2,3]],[[1,2,3]],[[1,2,3]],[[1,2,3]]]}', "application/json",
         413, "5 clouds, more than the 4"),
        (npy(np.zeros((501, 3))), "application/octet-stream", 413, "501 points, more than the 500"),
        (npy(np.zeros((2, 2))), "application/octet-stream", 422, "expected numbers (n, 3)"),
        (npy(np.full((9, 3), np.nan)), "application/octet-stream", 422, "finite"),
        (npy(cloud())[:-8], "application/octet-stream", 422, "the body has another size"),
        (npy(np.array([[{}, 1, 2]]), allow_pickle=True), "application/octet-stream", 422, "object"),
        (b"\x93NUMPY", "application/octet-stream", 422, "not a .npy file"),
        (b"x", "text/plain", 415, "content type 'text/plain'"),
        (b"x", "multipart/form-data", 422, "boundary"),
        (bytes(60_001), "application/octet-stream", 413, "more than 60000 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_cloud_or_too_much_is_refused_in_one_line(
    client: TestClient, body: bytes, kind: str, status: int, said: str
) -> None:
    found = client.post("/predict", content=body, headers={"content-type": kind})
    assert (found.status_code, list(found.json())) == (status, ["error"])
    assert said in found.json()["error"]
    assert "\n" not in found.json()["error"]


def test_a_header_that_promises_more_than_there_is_costs_no_memory(client: TestClient) -> None:
    for shape, status in (((10**12, 3), 413), ((400, 3), 422), ((0, 3), 422), ((3,), 422)):
        file = io.BytesIO()
        head = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        found = client.post("/predict", content=file.getvalue(), headers=NPY)
        assert (shape, found.status_code) == (shape, status)


@pytest.mark.parametrize("name", ["a.exe", "a", "", "b.obj", "c.npy"])
def test_files_that_are_none_are_named(client: TestClient, name: str) -> None:
    # by hand, as clients leave an empty name out
    body = (
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nxy\r\n--b--'
    )
    kind = {"content-type": "multipart/form-data; boundary=b"}
    found = client.post("/predict", content=body.encode(), headers=kind)
    assert found.status_code == 422
    assert found.json()["error"].startswith(f"'{name}': ")


def test_too_many_files_are_refused(client: TestClient) -> None:
    files = [("file", (f"{at}.npy", npy(cloud(at)))) for at in range(5)]
    assert client.post("/predict", files=files).status_code == 413


def test_as_many_wait_as_may_and_others_are_told_when_to_come_again(
    classifier: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, statuses = threading.Event(), []
    real = classifier.predict

    def slow(*args: Any, **kwargs: Any) -> Any:
        go.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(classifier, "predict", slow)
    with client_of(classifier) as client:

        def ask() -> None:
            found = client.post("/predict", content=npy(cloud()), headers=NPY)
            statuses.append(found.status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        while client.get("/ready").status_code == 200:
            assert not statuses
        refused = client.post("/predict", content=npy(cloud()), headers=NPY)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.get("/health").json() == {"alive": True, "ready": False}
        assert "sa3d_waiting 2.0" in client.get("/metrics").text
        go.set()
        for thread in threads:
            thread.join()
        assert statuses == [200, 200]
        assert client.get("/health").json() == {"alive": True, "ready": True}


def test_what_it_tells_of_itself(client: TestClient) -> None:
    told = client.get("/model").json()
    assert told["model"]["kind"] == "classifier"
    assert told["model"]["class_names"] == CLASSES
    assert ".stl" in told["formats"]
    assert told["limits"]["points"] == 500
    client.post("/predict", content=npy(cloud()), headers=NPY)
    client.get("/secret/../x")
    text = client.get("/metrics").text
    assert 'sa3d_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'sa3d_requests_total{path="other",status="404"} 1.0' in text
    assert "sa3d_clouds_total 1.0" in text
    schema = client.get("/openapi.json").json()
    kinds = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert list(kinds) == ["application/json", "application/octet-stream", "multipart/form-data"]


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/page.js", "/viewer.js", "/page.css"):
        found = client.get(path)
        assert found.status_code == 200
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert "https:" not in found.text
        assert found.text.count("http:") == found.text.count("http://www.w3.org/2000/svg")
    assert client.get("/docs").status_code == 404


def test_similar_shapes_of_an_index(classifier: Loaded, tmp_path: Path) -> None:
    encoder = saved(tmp_path / "encoder", "pretrain", "point-mae")
    (tmp_path / "shapes").mkdir()
    for seed in range(4):
        np.save(tmp_path / "shapes" / f"{seed}.npy", cloud(seed, 64))
    place = tmp_path / "shapes.npz"
    index = build_index(tmp_path / "shapes", place, model=encoder)
    app = build(classifier, LIMITS, (), Neighbours(place))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        asked = client.post("/predict?near=3&shown=5", content=npy(cloud(2, 64)), headers=NPY)
        near = asked.json()["clouds"][0]["near"]
        wanted = index.nearest(tmp_path / "shapes" / "2.npy", top=2)
        assert near[0]["path"] == os.path.join("shapes", "2.npy")  # noqa: PTH118
        assert near[0]["similarity"] == pytest.approx(1.0, abs=1e-5)
        assert [each["path"] for each in near[1:]] == [
            f"shapes/{each.path.name}" for each in wanted
        ]
        assert np.abs(near[0]["shown"]).max() <= 1.0
        assert client.get("/model").json()["index"] == {"shapes": 4}
    with client_of(classifier) as client:
        found = client.post("/predict?near=3", content=npy(cloud()), headers=NPY)
        assert "without --index" in found.json()["error"]


def test_a_foreign_name_and_wrong_queries_are_refused(client: TestClient) -> None:
    found = client.get("/health", headers={"host": "evil.example"})
    assert (found.status_code, found.json()["error"]) == (
        421,
        "this service is not called 'evil.example'",
    )
    assert client.get("/health", headers={"host": "[::1]:8000"}).status_code == 200
    for query in ("up=w", "shown=-1", "shown=99999", "shown=x"):
        found = client.post(f"/predict?{query}", content=npy(cloud()), headers=NPY)
        assert found.status_code == 422
        assert found.json()["error"].startswith(query.split("=")[0])
    assert json.loads(client.get("/predict").text) == {"error": "Method Not Allowed"}


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000", 200),
        ("127.0.0.1", "http://127.0.0.1:80", 200),
        ("LocalHost:8000", "http://localhost:8000", 200),
        ("127.0.0.1:8000", "http://127.0.0.1:9000", 403),
        ("127.0.0.1:8000", "http://localhost:8000", 403),
        ("127.0.0.1:8000", "https://evil.example", 403),
        ("127.0.0.1:8000", "http://127.0.0.1:8000.evil.example", 403),
        ("127.0.0.1:8000", "null", 403),
        ("127.0.0.1:8000", "http://[", 403),
    ],
)
def test_only_its_own_page_may_ask(client: TestClient, host: str, origin: str, status: int) -> None:
    headers = {**NPY, "host": host, "origin": origin}
    found = client.post("/predict", content=npy(cloud()), headers=headers)
    assert found.status_code == status
    if status == 403:
        assert found.json()["error"] == f"a page of '{origin}' may not ask this service"


def test_addresses_of_this_machine_alone() -> None:
    for name in ("localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert is_loopback(name), name
    for name in ("", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil"):
        assert not is_loopback(name), name


def test_an_address_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    import socket

    folder = saved(tmp_path / "model", "pretrain", "point-mae")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1 port {port}: .*--port"):
            serve(str(folder), "127.0.0.1", port, Limits(), print)
