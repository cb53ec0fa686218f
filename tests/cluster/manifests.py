"""Manifests with what is right and wrong about them: for our validation and for a real API server.

Both must come to the same verdict about every row, with the same words where a rule of ours
speaks, and fill in the same defaults.
"""

from dataclasses import dataclass, field
from typing import Any

from spanyard_core.resources.kinds import API_VERSION, Kind

SHA = "sha256:" + "0123456789abcdef" * 4
GIT: dict[str, Any] = {"git": {"url": "https://git.example.com/team/agent.git"}}


@dataclass(frozen=True)
class Row:
    """One manifest. No `says`: it is valid."""

    about: str
    kind: Kind
    spec: Any
    says: str = ""
    """Words of the problem; those of a rule in the CRDs come from both."""
    at: str = "spec"
    """Where the problem is."""
    name: str = "support-1"
    old: Any = None
    """The spec before, for a change."""
    old_status: dict[str, Any] = field(default_factory=dict)
    ours: bool = False
    """The words are ours alone: the API server says it in its own."""

    def manifest(self, spec: Any = None) -> dict[str, Any]:
        made = {"apiVersion": API_VERSION, "kind": self.kind, "metadata": {"name": self.name}}
        given = self.spec if spec is None else spec
        return made if given is None else {**made, "spec": given}


def build(**changes: Any) -> dict[str, Any]:
    """A valid Build's spec with changes."""
    return {"project": "support", "source": GIT, **changes}


def server(**changes: Any) -> dict[str, Any]:
    """A valid Deployment's spec with changes."""
    return {"project": "support", "follow": True, "command": "node server.js", **changes}


def git(**changes: Any) -> dict[str, Any]:
    return build(source={"git": GIT["git"] | changes})


EVERYTHING_BUILD = build(
    source=GIT | {"subPath": "agents/support"},
    builder={"image": "node:22-slim", "imagePullSecrets": [{"name": "registry"}]},
    install="npm ci",
    build="npm run build",
    output="dist/server",
    env=[
        {"name": "LOG_LEVEL", "value": "debug"},
        {"name": "EMPTY", "value": ""},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "npm", "key": "token"}}},
        {
            "name": "REGION",
            "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}},
        },
    ],
    resources={"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": 2}},
    cache={},
    timeout="1h30m",
    cancel=False,
    retry=0,
    serviceAccountName="builder",
    nodeSelector={"example.com/disk": "ssd"},
    tolerations=[{"key": "gpu", "operator": "Exists"}, {}],
)

EVERYTHING_SERVER = server(
    runtimeImage="node:22-slim",
    imagePullSecrets=[{"name": "registry"}],
    port=3000,
    env=[{"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "ai", "key": "k"}}}],
    resources={"limits": {"memory": "1Gi", "nvidia.com/gpu": 1}},
    replicas=3,
    health={"path": "/healthz", "period": "2s", "timeout": "500ms", "startupTimeout": "2m"},
    terminationGracePeriod="1m",
    progressDeadline="15m",
    revisionHistoryLimit=0,
    suspend=False,
    serviceAccountName="support",
    nodeSelector={"kubernetes.io/arch": "arm64"},
    tolerations=[{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}],
    securityContext={"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
    podSecurityContext={"fsGroup": 1000},
    expose={
        "ingress": {
            "metadata": {"annotations": {"example.com/x": "y"}},
            "spec": {"rules": [{"host": "support.example.com"}]},
        },
        "httpRoute": {"spec": {"parentRefs": [{"name": "gateway"}]}},
    },
    collector={"capture": "api", "excludeContainers": ["proxy"], "resources": {"limits": {}}},
)

_ONE_SOURCE = "set exactly one of git, archive, directory and artifact; here:"
_ONE_SERVED = "set exactly one of buildRef, follow and image; here:"
_DURATION = "must be a duration such as 30s, 15m, 1h30m or 7d"
_INSIDE = "must be a path inside the source"
_STARTED = "stay as they are once a build has started"
_QUANTITY = "must be a quantity such as"

PROJECTS = [
    Row("nothing but a name", "Project", None),
    Row("an empty spec", "Project", {}),
    Row(
        "everything", "Project",
        {
            "displayName": "Support", "description": "Answers.",
            "builds": {
                "concurrencyPolicy": "SerialLatestOnly",
                "retention": {
                    "succeededLimit": 3, "failedLimit": 0,
                    "ttlAfterSucceeded": "30d", "ttlAfterFailed": "",
                },
            },
        },
    ),
    Row("an empty retention gets defaults", "Project", {"builds": {"retention": {}}}),
    Row("a null gets the default", "Project", {"builds": {"concurrencyPolicy": None}}),
    Row("a null without a default is not there", "Project", {"displayName": None}),
    Row("an unknown policy", "Project", {"builds": {"concurrencyPolicy": "serial"}},
        "did you mean `Serial`", "spec.builds.concurrencyPolicy", ours=True),
    Row("no successful build kept", "Project", {"builds": {"retention": {"succeededLimit": 0}}},
        "must be from 1 to 1000", "spec.builds.retention.succeededLimit", ours=True),
    Row("a duration in words", "Project", {"builds": {"retention": {"ttlAfterFailed": "1 week"}}},
        _DURATION, "spec.builds.retention.ttlAfterFailed"),
    Row("an unknown field", "Project", {"concurrencyPolicy": "Serial"},
        "did you mean `spec.builds.concurrencyPolicy`", "spec.concurrencyPolicy", ours=True),
    Row("a spec that is a text", "Project", "x", "must be an object", "spec", ours=True),
    Row("upper case in a name", "Project", {}, "metadata.name", "metadata.name", name="Support",
        ours=True),
    Row("a dot in a name", "Project", {}, "lower-case letters", "", name="a.b"),
    Row("a name of 50", "Project", {}, name="a" * 50),
    Row("a name of 51", "Project", {}, "at most 50", "", name="a" * 51),
    Row("a name of digits", "Project", {}, name="2026"),
]  # fmt: skip

BUILDS = [
    Row("the least", "Build", build()),
    Row("everything", "Build", EVERYTHING_BUILD),
    Row("a folder", "Build", build(source={"directory": {"path": "."}})),
    Row("an archive", "Build", build(source={"archive": {"digest": SHA}})),
    Row("an artifact by digest", "Build", build(source={"artifact": {"digest": SHA}})),
    Row("an artifact by path", "Build", build(source={"artifact": {"path": "dist", "digest": ""}})),
    Row("an artifact with empty commands", "Build",
        build(source={"artifact": {"path": "dist"}}, install="", build="")),
    Row("empty texts are not set", "Build", build(source=GIT | {"subPath": ""}, install="")),
    Row("no spec", "Build", None, "is missing", "spec", ours=True),
    Row("no project", "Build", {"source": GIT}, "is missing: name of the Project",
        "spec.project", ours=True),
    Row("no source", "Build", {"project": "p"}, "is missing", "spec.source", ours=True),
    Row("an empty source", "Build", build(source={}), f"{_ONE_SOURCE} none", "spec.source"),
    Row("two sources", "Build", build(source=GIT | {"directory": {"path": "."}}),
        f"{_ONE_SOURCE} git directory", "spec.source"),
    Row("a git source without a URL", "Build", build(source={"git": {}}), "is missing",
        "spec.source.git.url", ours=True),
    Row("git over ssh", "Build", git(url="git@git.example.com:team/agent.git")),
    Row("git by a file", "Build", git(url="file:///srv/git/agent")),
    Row("git with a port and a user", "Build", git(url="ssh://git@example.com:2222/x.git")),
    Row("a URL without a scheme", "Build", git(url="example.com/x"), "must be a URL",
        "spec.source.git.url"),
    Row("a URL that is an option", "Build", git(url="--upload-pack=touch /tmp/x"),
        "must be a URL", "spec.source.git.url"),
    Row("an option before an @", "Build", git(url="-oProxyCommand=x@host:y"), "must be a URL",
        "spec.source.git.url"),
    Row("a transport that runs programs", "Build", git(url="ext::sh -c x"), "must be a URL",
        "spec.source.git.url"),
    Row("a URL with spaces", "Build", git(url="https://a/b c"), "must be a URL",
        "spec.source.git.url"),
    Row("a token in the URL", "Build", git(url="https://user:secret@example.com/x.git"),
        "put credentials into a Secret", "spec.source.git.url"),
    Row("a branch with a slash", "Build", git(revision="feature/answers-2.x")),
    Row("a commit", "Build", git(revision="0123456789abcdef0123456789abcdef01234567")),
    Row("a revision that is an option", "Build", git(revision="--exec=x"),
        "must be the name of a branch", "spec.source.git.revision"),
    Row("a range", "Build", git(revision="a..b"), "must be the name of a branch",
        "spec.source.git.revision"),
    Row("a revision of two words", "Build", git(revision="a b"), "must be the name of a branch",
        "spec.source.git.revision"),
    Row("a short digest", "Build", build(source={"archive": {"digest": "sha256:abc"}}),
        "64 hexadecimal digits", "spec.source.archive.digest"),
    Row("an artifact of nothing", "Build", build(source={"artifact": {}}),
        "set exactly one of digest and path", "spec.source.artifact"),
    Row("an artifact of both", "Build", build(source={"artifact": {"digest": SHA, "path": "x"}}),
        "set exactly one of digest and path", "spec.source.artifact"),
    Row("an artifact that is to be built", "Build",
        build(source={"artifact": {"path": "x"}}, build="make"),
        "leave out install and build", "spec"),
    Row("a folder outside the source", "Build", build(source=GIT | {"subPath": "../x"}), _INSIDE,
        "spec.source.subPath"),
    Row("dots in a folder's name", "Build", build(source=GIT | {"subPath": "a..b/..c"})),
    Row("an output outside the source", "Build", build(output="a/../../b"), _INSIDE, "spec.output"),
    Row("an absolute output", "Build", build(output="/etc"), _INSIDE, "spec.output"),
    Row("an empty output", "Build", build(output=""), "must not be empty", "spec.output", ours=True),
    Row("a mistyped field", "Build", build(buld="x"), "did you mean `spec.build`", "spec.buld",
        ours=True),
    Row("a field of another level", "Build", build(git={"url": "x"}),
        "did you mean `spec.source.git`", "spec.git", ours=True),
    Row("a variable twice", "Build", build(env=[{"name": "A"}, {"name": "A", "value": "1"}]),
        "`A` is there already", "spec.env[1]", ours=True),
    Row("a variable with value and source", "Build",
        build(env=[{"name": "A", "value": "1",
                    "valueFrom": {"secretKeyRef": {"name": "n", "key": "k"}}}]),
        "set value or valueFrom, not both", "spec.env[0]"),
    Row("a source of nothing", "Build", build(env=[{"name": "A", "valueFrom": {}}]),
        "set exactly one of secretKeyRef and configMapKeyRef", "spec.env[0].valueFrom"),
    Row("a variable that begins with a digit", "Build", build(env=[{"name": "1A"}]),
        "no digit at its start", "spec.env[0].name"),
    Row("a variable of ours", "Build", build(env=[{"name": "SPANYARD_CACHE", "value": "/x"}]),
        "must not be PORT", "spec.env[0].name"),
    Row("a number as value", "Build", build(env=[{"name": "A", "value": 1}]), "put it in quotes",
        "spec.env[0].value", ours=True),
    Row("a null in a list", "Build", build(env=[None]), "must be an object", "spec.env[0]",
        ours=True),
    Row("variables as an object", "Build", build(env={"A": "1"}), "must be a list", "spec.env",
        ours=True),
    Row("a memory in words", "Build", build(resources={"limits": {"memory": "1 GB"}}), _QUANTITY,
        "spec.resources.limits.memory"),
    Row("less than no processor", "Build", build(resources={"limits": {"cpu": -1}}), _QUANTITY,
        "spec.resources.limits.cpu"),
    Row("half a processor as a number", "Build", build(resources={"limits": {"cpu": 0.5}}),
        "must be a text or a whole number", "spec.resources.limits.cpu", ours=True),
    Row("a cache at the root", "Build", build(cache={"mountPath": "/"}), "below `/`",
        "spec.cache.mountPath"),
    Row("no time", "Build", build(timeout="0s"), "must be longer than zero", "spec.timeout"),
    Row("seconds without a unit", "Build", build(timeout="90"), _DURATION, "spec.timeout"),
    Row("units in the wrong order", "Build", build(timeout="30m1h"), _DURATION, "spec.timeout"),
    Row("a word for a truth", "Build", build(cancel="yes"), "must be true or false", "spec.cancel",
        ours=True),
    Row("a retry as a text", "Build", build(retry="1"), "write it without quotes", "spec.retry",
        ours=True),
    Row("a retry below zero", "Build", build(retry=-1), "must be from 0", "spec.retry", ours=True),
    Row("an unknown effect", "Build", build(tolerations=[{"effect": "Never"}]), "must be one of",
        "spec.tolerations[0].effect", ours=True),
    Row("a project with an upper-case letter", "Build", build(project="Support"),
        "must be the name of a Project", "spec.project"),
    Row("a project of 51 letters", "Build", build(project="a" * 51), "may have 50",
        "spec.project", ours=True),
    # changes
    Row("a change before the start", "Build", build(install="x"), old=build()),
    Row("a change after the start", "Build", build(install="x"), _STARTED, old=build(),
        old_status={"phase": "Building"}),
    Row("another source after the end", "Build", git(revision="v2"), _STARTED, old=build(),
        old_status={"phase": "Failed"}),
    Row("another output after the end", "Build", build(output="x"), _STARTED, old=build(),
        old_status={"phase": "Succeeded"}),
    Row("another source, to run again", "Build", build(**git(revision="v2"), retry=1), old=build(),
        old_status={"phase": "Failed"}),
    Row("cancelling a build that runs", "Build", build(cancel=True), old=build(),
        old_status={"phase": "Building"}),
    Row("a longer time for a build that runs", "Build", build(timeout="2h"), old=build(),
        old_status={"phase": "Building"}),
    Row("another project", "Build", build(project="sales"), "must stay the same",
        "spec.project", old=build()),
    Row("a smaller retry", "Build", build(retry=1), "must not become smaller", "spec.retry",
        old=build(retry=2)),
]  # fmt: skip

DEPLOYMENTS = [
    Row("the least", "Deployment", server()),
    Row("everything", "Deployment", EVERYTHING_SERVER),
    Row("an image alone", "Deployment", {"project": "p", "image": "registry.example.com/x:1"}),
    Row("an image with a command", "Deployment", {"project": "p", "image": "x", "command": "y"}),
    Row("one build", "Deployment",
        {"project": "p", "buildRef": {"name": "support-17"}, "command": "x"}),
    Row("one build, and following switched off", "Deployment",
        {"project": "p", "buildRef": {"name": "b"}, "follow": False, "image": "", "command": "x"}),
    Row("an empty health and collector get defaults", "Deployment", server(health={}, collector={})),
    Row("an ingress of its own", "Deployment", server(expose={"ingress": {}})),
    Row("no replica", "Deployment", server(replicas=0)),
    Row("nothing that could run", "Deployment", {"project": "p", "command": "x"},
        f"{_ONE_SERVED} none"),
    Row("following and an image", "Deployment", server(image="x"),
        f"{_ONE_SERVED} follow image"),
    Row("an image with a runtime", "Deployment",
        {"project": "p", "image": "x", "runtimeImage": "y"}, "an image needs no runtimeImage"),
    Row("no command", "Deployment", {"project": "p", "follow": True}, "an artifact needs a command"),
    *(Row(f"one program, in any quotes: {n}", "Deployment", server(command=command))
      for n, command in enumerate((
          "node server.js\n", "exec python3 -m app --name 'a; b' --other \"c && \\\"d|\" e\\;f",
          "sh -c 'cd app && exec node .'", "node ${MAIN:-x;y}.js $(cat a | head -1) $((1 + 2)) `a|b` $X",
          "node . --long \\\n  --lines", "node . >/tmp/log 2>&1 </dev/null",
          "python3 -c 'import a\nimport b; a.run()'"))),
    *(Row(f"several commands: {command!r}", "Deployment", server(command=command),
          "must be one program", "spec.command")
      for command in ("cd app && node .", "a;b", "a | tee b", "a || b", "a &", "a\nb",
                      "sh -c 'a' && b", "node 'a", "(a)", "a >&2 & b", "\"$(echo ')')\" ; b")),
    *(Row(f"variables before the program: {command!r}", "Deployment", server(command=command),
          "variables belong into spec.env", "spec.command")
      for command in ("DEBUG=1 node .", " exec A='b c' node .")),
    Row("a build without a name", "Deployment",
        {"project": "p", "buildRef": {}, "command": "x"}, "is missing: name of a Build",
        "spec.buildRef.name", ours=True),
    Row("a port that there is not", "Deployment", server(port=70000), "must be from 1 to 65535",
        "spec.port", ours=True),
    Row("a port as a text", "Deployment", server(port="8080"), "write it without quotes",
        "spec.port", ours=True),
    Row("its own PORT", "Deployment", server(env=[{"name": "PORT", "value": "1"}]),
        "must not be PORT", "spec.env[0].name"),
    Row("less than no replica", "Deployment", server(replicas=-1), "must be from 0",
        "spec.replicas", ours=True),
    Row("a path without a slash", "Deployment", server(health={"path": "healthz"}),
        "must begin with `/`", "spec.health.path"),
    Row("a period of nothing", "Deployment", server(health={"period": "0ms"}),
        "must be longer than zero", "spec.health.period"),
    Row("no grace", "Deployment", server(terminationGracePeriod="0s")),
    Row("a capture that there is not", "Deployment", server(collector={"capture": "hostpath"}),
        "did you mean `hostPath`", "spec.collector.capture", ours=True),
    Row("a container left out twice", "Deployment",
        server(collector={"excludeContainers": ["a", "a"]}), "`a` is there already",
        "spec.collector.excludeContainers[1]", ours=True),
    Row("a mistyped toleration", "Deployment", server(tolerations=[{"opertor": "Exists"}]),
        "did you mean `spec.tolerations[0].operator`", "spec.tolerations[0].opertor", ours=True),
    Row("unknown fields of what is passed on", "Deployment",
        server(securityContext={"ofTheFuture": {"a": [1, None, {"b": True}]}})),
    Row("a name that begins with a digit", "Deployment", server(), "with a letter at the start",
        "", name="1-support"),
    # changes
    Row("another build", "Deployment",
        {"project": "p", "buildRef": {"name": "b"}, "command": "x"},
        old={"project": "p", "follow": True, "command": "x"}),
    Row("another project", "Deployment", server(project="sales"), "must stay the same",
        "spec.project", old=server()),
]  # fmt: skip

ROWS = [*PROJECTS, *BUILDS, *DEPLOYMENTS]
