"""The container and its neighbours, without a Docker: rules, files, and the commands themselves.

hadolint has the usual rules of Dockerfiles. What is run here is what Docker would run: the commands
of the image and of compose.yaml go to the parsers of their programs, or to the programs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from tests.processes import aws_at
from tests.scripts import script
from tests.serve.services import Running, running, settings, shelf_with
from zoo.cli import parser

if TYPE_CHECKING:
    from registry.bundle import Bundle

ROOT = Path(__file__).parent.parent
PINNED = re.compile(r"[\w./-]+:(?!latest)[\w.-]+@sha256:[0-9a-f]{64}")
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRETS = {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"}


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments, each in one line."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in whole.splitlines())]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def arguments_of(word: str, stage: list[tuple[str, str]]) -> list[str]:
    return [rest for each, rest in stage if each == word]


def copied() -> list[str]:
    """Return what the Dockerfile takes from this folder."""
    copies = [shlex.split(rest) for stage in stages() for rest in arguments_of("COPY", stage)]
    return [name for copy in copies if not copy[0].startswith("--from") for name in copy[:-1]]


def health() -> list[str]:
    """Return the command by which Docker sees whether the service is well."""
    [rest] = arguments_of("HEALTHCHECK", stages()[-1])
    command: list[str] = json.loads(rest.partition("CMD ")[2])
    return command


def compose() -> dict[str, Any]:
    """Return compose.yaml with the defaults of its variables."""
    text = (ROOT / "compose.yaml").read_text("utf-8")
    filled = VARIABLE.sub(lambda each: each[3] if each[2] == "-" else "given", text)
    found: dict[str, Any] = yaml.safe_load(filled)
    return found


SERVICES = compose()["services"]


# ----------------------------------------------------------------------------------- Dockerfile


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_both_stages_begin_with_a_base_that_is_pinned_by_its_digest() -> None:
    known = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    bases = [shlex.split(arguments_of("FROM", stage)[0])[0] for stage in stages()]
    assert bases == ["${BASE}", "${BASE}"]
    assert PINNED.fullmatch(known["BASE"])
    assert known["BASE"].startswith(f"python:{sys.version_info[0]}.{sys.version_info[1]}.") or (
        sys.version_info[:2] != (3, 11)
    )


def test_it_runs_as_a_user_without_rights_who_owns_nothing_but_the_home() -> None:
    last = stages()[-1]
    user, group = arguments_of("USER", last)[-1].split(":")
    assert int(user) >= 1000
    assert group == "0"
    [made] = [rest for rest in arguments_of("RUN", last) if "install -d" in rest]
    assert shlex.split(made)[-1] == "/data"
    assert f"-o {user} -g {group} -m 2775" in made
    order = [word for word, _ in last]
    assert order.index("RUN") < order.index("USER") < order.index("ENTRYPOINT")
    assert not any("--chown" in rest for rest in arguments_of("COPY", last))


def test_what_runs_has_no_tools_to_build_with() -> None:
    runs = arguments_of("RUN", stages()[-1])
    assert runs
    assert not any(re.search(r"\b(pip|apt-get|apt|curl|gcc|make)\b", each) for each in runs)
    installs = [rest for rest in arguments_of("RUN", stages()[0]) if "pip" in rest]
    assert len(installs) == 3
    assert all("--python /opt/zoo/bin/python" in each for each in installs)
    assert "--without-pip" in installs[0]


def test_all_but_torch_is_installed_by_hashes_and_no_package_is_compiled() -> None:
    packages, torch, own = [rest for rest in arguments_of("RUN", stages()[0]) if "pip" in rest]
    for option in ("--require-hashes", "--no-deps", "--only-binary :all:"):
        assert option in packages
    assert "--only-binary :all:" in torch
    assert "--no-deps --no-build-isolation ." in own
    [pin] = re.findall(r"\$\((.*?)\)", torch)
    answered = subprocess.run(["sh", "-c", pin], cwd=ROOT, capture_output=True, text=True)
    assert re.fullmatch(r"torch==[\d.]+\n", answered.stdout)
    for file in re.findall(r"-r (\S+)", packages):
        assert file in copied()


def test_the_lock_of_the_image_is_the_part_of_the_lock_that_it_needs() -> None:
    text = (ROOT / "requirements-image.lock").read_text("utf-8")
    assert text == script("make_image_lock").image_lock(), "run `make lock`"
    assert set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE)) >= {"fastapi", "mlflow", "boto3"}
    assert "pytest" not in text
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE):
        assert metadata.version(name) == version


def test_every_file_that_is_copied_exists_and_is_let_through(tmp_path: Path) -> None:
    """Docker sends what .dockerignore names with a `!`; the package is built from that alone."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
    assert lines[1] == "*"
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert sent == set(copied())
    for name in copied():
        source = ROOT / name
        assert source.exists()
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "zoo-home")
            shutil.copytree(source, tmp_path / "context" / name, ignore=ignored)
        else:
            (tmp_path / "context").mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / "context" / name)
    code = f"from setuptools import build_meta as b; b.build_wheel({str(tmp_path)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "context")
    assert built.returncode == 0
    assert len(list(tmp_path.glob("texture_zoo-*.whl"))) == 1


def test_its_command_serves_where_its_port_and_its_check_of_health_are() -> None:
    last = stages()[-1]
    [entry], [usual] = arguments_of("ENTRYPOINT", last), arguments_of("CMD", last)
    words = [*json.loads(entry), *json.loads(usual)]
    assert words[0] == "zoo"
    args = parser().parse_args(words[1:])
    assert args.run.__module__ == "zoo.cli.serve"
    assert args.host == "0.0.0.0"
    assert arguments_of("EXPOSE", last) == [str(args.port)]
    assert f"http://127.0.0.1:{args.port}/readyz" in health()[-1]


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_the_examples_in_the_first_lines_are_commands_of_ours(file: str) -> None:
    head = re.match(r"(?:#.*\n)+", (ROOT / file).read_text("utf-8"))
    assert head
    lines = re.sub(r"\\\n# *", "", head[0]).replace("\n#", "\n").splitlines()
    found = []
    for words in (shlex.split(line, comments=True) for line in lines if " run --rm" in line):
        image = next(
            at for at, word in enumerate(words) if re.match(r"(texture-)?zoo(:gpu)?$", word)
        )
        usual = [] if words[image + 1 :] else ["serve"]
        found.append(parser().parse_args([*words[image + 1 :], *usual]).run.__module__)
    assert {"zoo.cli.serve", "zoo.cli.score" if file == "Dockerfile" else "zoo.cli.search"} <= {
        *found
    }


@pytest.fixture(scope="module")
def service(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The service with one detector."""
    root = tmp_path_factory.mktemp("container")
    shelf_with(root, [tiny_bundle])
    with running(settings(root)) as found:
        yield found


def ends_with(command: list[str], **variables: str) -> int:
    program = [sys.executable if command[0] == "python" else command[0], *command[1:]]
    done = subprocess.run(program, env=os.environ | variables, capture_output=True, check=False)
    return done.returncode


def test_the_check_of_health_passes_while_the_service_answers_and_fails_when_not(
    service: Running,
) -> None:
    def at(port: int) -> list[str]:
        return [each.replace(":8080", f":{port}") for each in health()]

    elsewhere = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    assert ends_with(at(service.port), **elsewhere) == 0
    assert ends_with([each.replace("readyz", "nothing") for each in at(service.port)]) != 0
    assert ends_with(at(9)) != 0


# --------------------------------------------------------------------------------- compose.yaml


def test_every_variable_is_explained_and_the_passwords_have_no_default() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    used = [(each[1], each[2]) for each in VARIABLE.finditer(text)]
    example = (ROOT / ".env.example").read_text("utf-8")
    explained = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert {name for name, _ in used} == set(explained)
    for name, kind in used:
        assert kind == ("?" if name in SECRETS else "-")  # `:?` refuses what is empty too
    assert {name for name, value in explained.items() if not value} == SECRETS
    for each in VARIABLE.finditer(text):
        if each[2] == "-":
            assert each[3] == explained[each[1]]


def test_no_password_is_written_down() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    values = re.findall(r"^\s*\w*(?:PASSWORD|SECRET|KEY|TOKEN)\w*: *(.*)$", text, re.MULTILINE)
    assert len(values) >= 3
    assert all(VARIABLE.fullmatch(value) for value in values)


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_service_is_pinned_local_limited_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"]) or service["image"] == "texture-zoo:local"
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert "no-new-privileges:true" in service["security_opt"]
    assert name == "minio" or (service["read_only"] and service["cap_drop"] == ["ALL"])
    assert not {"privileged", "network_mode", "pid"} & set(service)
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    for volume in service.get("volumes", ()):
        assert volume.partition(":")[0] in compose()["volumes"]
    watched = service.get("healthcheck", {}).get("test") or name in ("zoo", "buckets")
    assert watched  # `zoo` by the check of the image


def test_the_service_is_told_where_its_neighbours_are() -> None:
    known = SERVICES["zoo"]["environment"]
    assert known["ZOO_SHELF"].startswith("s3://zoo/")
    assert known["AWS_ENDPOINT_URL_S3"] == "http://minio:9000"
    assert known["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert known["ZOO_STARTERS"] == "on"
    args = parser().parse_args(SERVICES["zoo"]["command"])
    assert (args.host, args.port) == ("0.0.0.0", 8080)


MLFLOW = """
import json, sys
from mlflow.cli import server
from mlflow.server import app
with server.make_context("server", sys.argv[1:]) as context:
    print(json.dumps({name: str(value) for name, value in context.params.items()}))
print(app.test_client().get("/health").status_code)
"""


def test_mlflow_takes_its_options_and_answers_where_it_is_asked_for_its_health() -> None:
    service = SERVICES["mlflow"]
    [program], [name, *options] = service["entrypoint"], service["command"]
    assert (program, name) == ("mlflow", "server")
    command = [sys.executable, "-c", MLFLOW, *options]
    answered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    params, status = answered.splitlines()[-2:]
    known = {"host": "0.0.0.0", "port": "5000", "artifacts_destination": "s3://mlflow"}
    assert known.items() <= json.loads(params).items()
    assert status == "200"
    assert "http://127.0.0.1:5000/health" in service["healthcheck"]["test"][-1]


def test_the_buckets_are_made_once_and_a_second_time_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        for name, value in aws_at(f"http://{host}:{port}", tmp_path).items():
            monkeypatch.setenv(name, value)
        command = [*SERVICES["buckets"]["entrypoint"], *SERVICES["buckets"]["command"]]
        for _ in range(2):
            assert ends_with(command, AWS_ENDPOINT_URL_S3=f"http://{host}:{port}") == 0
            listed = boto3.client("s3").list_buckets()["Buckets"]
            assert {each["Name"] for each in listed} == {"zoo", "mlflow"}
    finally:
        server.stop()
