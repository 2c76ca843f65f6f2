"""deploy/ is what its linters take, promises nothing unsafe, and its commands run: here, without containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import kubernetes_validate
import pytest
from botocore.exceptions import ClientError
from deployment_support import (
    ACCOUNT,
    DEPLOY,
    Here,
    compose,
    exec_form,
    healthy,
    instructions,
    manifests,
    program,
    running,
    start_node,
    wait_until,
)
from support import ROOT, TestLake, free_port, run, run_command, write_slide

PAGE = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "docs/deployment.md").read_text(encoding="utf-8"), re.DOTALL))
KUBERNETES = "1.37"
SERVICES = {"storage", "bucket", "mlflow", "ray-head", "ray-worker", "app"}


def lint(*words: str) -> None:
    run([program(words[0]), *words[1:]], check=True)


def test_the_container_file_is_what_hadolint_takes() -> None:
    lint("hadolint", "deploy/Containerfile")


def test_the_compose_file_is_what_the_specification_says() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")
    assert set(compose(ACCOUNT)["services"]) == SERVICES
    with pytest.raises(KeyError, match="RAY_AUTH_TOKEN"):
        compose({**ACCOUNT, "RAY_AUTH_TOKEN": ""})


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template of Ray's resources, whose own schema comes with the operator alone."""
    for each in manifests():
        spec = each["spec"] if each["apiVersion"].startswith("ray.io") else {}
        if each["kind"] == "RayCluster":
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                yield group.get("groupName", "head"), group["template"]
        elif each["kind"] == "RayJob":
            yield "job", spec["submitterPodTemplate"]


def test_the_kubernetes_file_is_what_kubernetes_takes() -> None:
    assert [each["kind"] for each in manifests()] == ["ConfigMap", "NetworkPolicy", "RayCluster", "RayJob"]
    for each in manifests():
        assert each["metadata"]["namespace"] == "histolake"
        if not each["apiVersion"].startswith("ray.io"):
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    for name, template in pods():
        metadata = {**template.get("metadata", {}), "name": name}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_a_pod_with_a_mistake_is_refused() -> None:
    _, template = next(pods())
    spec = {**template["spec"], "container": []}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}, KUBERNETES, strict=True
        )


def test_the_cluster_is_of_the_version_that_is_installed_and_the_job_runs_on_it() -> None:
    cluster, job = manifests()[2:]
    pinned = re.search(r"^ray==(\S+)", (DEPLOY / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert cluster["spec"]["rayVersion"] == pinned[1]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}


def test_pods_and_containers_may_do_little() -> None:
    for name, template in pods():
        assert template["spec"]["securityContext"]["runAsNonRoot"], name
        for container in template["spec"]["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"], name
            assert not security["allowPrivilegeEscalation"], name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
    for name, service in compose(ACCOUNT)["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
    assert instructions("USER") == ["10001:10001"]


def test_what_is_published_is_published_to_this_machine_alone() -> None:
    ports = [port for service in compose(ACCOUNT)["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    unit = (DEPLOY / "histolake-app.service").read_text(encoding="utf-8")
    assert "0.0.0.0" not in unit


def test_images_are_pinned() -> None:
    services = compose(ACCOUNT)["services"].values()
    images = [*instructions("FROM"), *(service["image"] for service in services)]
    images += [container["image"] for _, template in pods() for container in template["spec"]["containers"]]
    for image in images:
        assert re.match(r"[\w./-]+:\d+\.\d+", image), image


def test_no_secret_is_in_a_file_and_the_example_names_all_that_is_to_be_filled_in() -> None:
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    example = (DEPLOY / "env.example").read_text(encoding="utf-8")
    named = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert set(named) == used
    assert {name for name, value in named.items() if not value} == set(ACCOUNT)
    for private in ("deploy/.env", "deploy/login.toml", ".streamlit/secrets.toml"):
        ignored = run(["git", "check-ignore", "-q", private])
        assert ignored.returncode == 0 or not (ROOT / ".git").exists()
    for path in filter(Path.is_file, DEPLOY.iterdir()):
        assert not re.search(r"(?i)(secret|password|token)\w*[=:] *['\"]?[\w+/]{16,}", path.read_text(encoding="utf-8"))


def test_what_the_image_copies_is_in_its_context_and_no_more() -> None:
    lines = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {word for line in instructions("COPY") if not line.startswith("--") for word in line.split()[:-1]}
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert "*" in lines
    assert ".streamlit/secrets.toml" in lines


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^(?:podman .* exec [a-z-]+ )?histolake ([a-z]+)", PAGE, re.MULTILINE)))
)
def test_a_command_in_the_page_exists(command: str) -> None:
    assert run_command(command, "--help").status == 0


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_image_has_the_versions_that_the_tests_have_and_none_of_their_tools() -> None:
    image, tested = pins(DEPLOY / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert {name: version for name, version in image.items() if tested.get(name, version) != version} == {}
    assert not {"pytest", "ruff", "mypy", "playwright", "keras"} & set(image)
    assert {"duckdb", "ray", "streamlit", "mlflow", "setuptools"} <= set(image)
    text = (DEPLOY / "requirements.lock").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|--(?:extra-)?index-url|--find-links|file:", text)
    assert len(re.findall(r"--hash=sha256:", text)) >= len(image)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    unit = (DEPLOY / "histolake-app.service").read_text(encoding="utf-8")
    (tmp_path / "histolake-app.service").write_text(
        unit.replace("/opt/histolake/.venv/bin/histolake", program("histolake"))
    )
    done = run(["systemd-analyze", "verify", tmp_path / "histolake-app.service"])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the image's first stage makes: what is copied, installed by its command.

    The packages of requirements.lock are those of the tests; they are not installed anew.
    """
    folder = tmp_path_factory.mktemp("image")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [packages] = (folder / "venv/lib").glob("python3*/site-packages")
    (packages / "of_the_tests.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    for words in map(str.split, instructions("COPY")):
        if words[0].startswith("--from"):
            continue
        *sources, target = words
        for source in sources:
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / source, folder / target, ignore=ignore)
            else:
                shutil.copy(ROOT / source, folder / target)
    [install] = [line for line in instructions("RUN") if "--editable" in line]
    run(install.split(), cwd=folder, check=True)
    return folder


def own(image: Path, words: list[str]) -> list[str]:
    """A command as it runs in the image: by the Python of its environment."""
    python = str(image / "venv/bin/python")
    return [python, *words[1:]] if words[0] == "python" else [python, "-m", *words]


@pytest.mark.slow
def test_the_image_starts_the_app_and_says_that_it_is_healthy(image: Path, full_lake: TestLake, tmp_path: Path) -> None:
    port = str(free_port())
    environment = {**os.environ, "HISTOLAKE_LAKE": str(full_lake.root), "HOME": str(tmp_path)}
    command = [
        word.replace("8501", port).replace("0.0.0.0", "127.0.0.1") for word in exec_form(instructions("CMD")[-1])
    ]
    [check] = [[word.replace("8501", port) for word in exec_form(text)] for text in instructions("HEALTHCHECK")]

    def is_healthy() -> bool:
        return run(own(image, check)).returncode == 0

    assert not is_healthy()
    log = tmp_path / "log"
    with running(own(image, command), environment, log, cwd=image):
        wait_until(is_healthy, log)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
            assert page.status == 200
        slide = full_lake.read("slides")["slide_id"][0]
        address = f"http://127.0.0.1:{port}/histolake/thumbnails/{slide}.jpeg"
        with urllib.request.urlopen(address, timeout=120) as picture:
            assert picture.read(2) == b"\xff\xd8"


@pytest.mark.slow
def test_the_image_has_all_that_the_command_line_needs(image: Path, tmp_path: Path) -> None:
    words = [str(image / "venv/bin/histolake"), "doctor", "--json", "--lake", str(tmp_path / "lake")]
    done = run(words, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert {each["status"] for each in found if each["check"] in ("python", "packages", "openslide", "images")} == {
        "ok"
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Object store, MLflow, Ray's head and worker by the compose file's commands; yields the app's environment."""
    folder = tmp_path_factory.mktemp("stack")
    ports = {port: str(free_port()) for port in ("8333", "5000", "6379")}
    here = Here(
        {
            **dict.fromkeys(("storage", "mlflow", "ray-head", "0.0.0.0"), "127.0.0.1"),
            **ports,
            "/data": str(folder / "data"),
            "/var/lib/histolake": str(folder),
        }
    )
    (folder / "data").mkdir()
    services = compose(ACCOUNT)["services"]
    inner = [f"-{name}.port{kind}={free_port()}" for name in ("master", "volume", "filer") for kind in ("", ".grpc")]
    told = {name: here(value) for name, value in services["app"]["environment"].items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_"))} | told
    environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{ports['8333']}"
    environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{ports['5000']}"
    with ExitStack() as ended:

        def start(name: str) -> None:
            service = services[name]
            command = here.command([*service.get("entrypoint", ()), *service["command"]])
            log = folder / f"{name}.log"
            if name.startswith("ray"):
                assert service["restart"] == "unless-stopped"
                start_node(ended, command, environment, log)
            else:
                ended.enter_context(running([*command, *(inner if name == "storage" else ())], environment, log))

        for names in (("storage", "mlflow", "ray-head"), ("ray-worker",)):  # the worker wants its head to be there
            for name in names:
                start(name)
            for name in names:
                wait_until(healthy(here, services[name], environment), folder / f"{name}.log")
        run(here.command(services["bucket"]["command"]), env=environment, check=True)
        yield {**environment, "RAY": f"127.0.0.1:{ports['6379']}"}


def client(environment: dict[str, str], secret: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=secret,
        region_name=environment["AWS_REGION"],
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_object_store_knows_its_account_and_honours_conditions(stack: dict[str, str]) -> None:
    s3 = client(stack, stack["AWS_SECRET_ACCESS_KEY"])
    s3.create_bucket(Bucket="conditions")
    s3.put_object(Bucket="conditions", Key="commit", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="conditions", Key="commit", Body=b"second", IfNoneMatch="*")
    assert s3.get_object(Bucket="conditions", Key="commit")["Body"].read() == b"first"

    def creates(_: int) -> bool:
        try:
            s3.put_object(Bucket="conditions", Key="race", Body=b"", IfNoneMatch="*")
        except ClientError:
            return False
        return True

    with ThreadPoolExecutor(8) as writers:
        assert sum(writers.map(creates, range(16))) == 1
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(stack, "another").list_buckets()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_lake_in_the_object_store_is_made_and_is_well(stack: dict[str, str], tmp_path: Path) -> None:
    def histolake(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lake", *words]
        return run(command, env=stack)

    made = histolake("ingest", str(write_slide(tmp_path / "one.tif")))
    assert made.returncode == 0, made.stderr
    found = json.loads(histolake("doctor", "--json").stdout)
    checks = ("lake", "writing", "creating once", "clock", "ledger", "mlflow")
    of_the_lake = [each for each in found if each["check"] in checks]
    assert len(of_the_lake) == len(checks)
    assert [each for each in of_the_lake if each["status"] != "ok"] == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_mlflow_keeps_runs_and_their_files(stack: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("kept")
    code = (
        "import mlflow, sys; mlflow.start_run(); mlflow.log_metric('auc', 0.9); mlflow.log_artifact(sys.argv[1]);"
        "print(open(mlflow.artifacts.download_artifacts(mlflow.get_artifact_uri('note.txt'))).read())"
    )
    client_only = {name: value for name, value in stack.items() if not name.startswith("AWS_")}
    done = run([sys.executable, "-c", code, tmp_path / "note.txt"], env=client_only, check=True)
    assert done.stdout.splitlines()[0] == "kept"
    s3 = client(stack, stack["AWS_SECRET_ACCESS_KEY"])
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="histolake", Prefix="mlflow/").get("Contents", ())]
    assert [key for key in keys if key.endswith("note.txt")]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_ray_cluster_takes_work_from_who_knows_its_token(stack: dict[str, str]) -> None:
    code = (
        "import ray, sys; ray.init(sys.argv[1], log_to_driver=False);"
        "print(ray.get(ray.remote(lambda: sum(range(10))).remote()))"
    )
    words = [sys.executable, "-c", code, stack["RAY"]]
    done = run(words, env=stack)
    assert done.stdout.splitlines()[-1:] == ["45"], done.stderr
    stranger = run(words, env={**stack, "RAY_AUTH_TOKEN": "b" * 48})
    assert stranger.returncode != 0
    assert "45" not in stranger.stdout


@pytest.mark.slow
def test_a_backup_taken_while_others_write_is_a_lake_that_is_well(full_lake: TestLake, tmp_path: Path) -> None:
    """docs/deployment.md: the ledger first, and then the rest."""
    copy = tmp_path / "copy"
    shutil.copytree(full_lake.root / "runs", copy / "runs")
    full_lake.ok("groups", "set", "Carcinoma", "tumor")  # somebody goes on working
    shutil.copytree(full_lake.root, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs"))
    restored = TestLake(copy)
    assert restored.ok("check").status == 0
    lines = restored("doctor", "--json").json()
    assert {each["status"] for each in lines if each["check"] in ("lake", "ledger", "encoders", "mlflow")} == {"ok"}
    restored.ok("groups", "set", "Benign", "none")  # opened for writing, its ledger is mended
    assert "carcinoma" in restored.read("annotation_groups")["group_name"].to_list()
