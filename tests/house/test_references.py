"""Documents, comments and docstrings lead somewhere; and the check that says so can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.references import RULES, Project, Text, broken, metrics, settings

PROJECT = Project(Path())
#: Data, and this file, which makes up what is broken.
SKIPPED = ("tests/acceptance/first_edition/first_edition.json", "tests/house/test_references.py")

#: A reference and a guide to monitoring that have all, and nothing else.
REFERENCE = "\n".join(f"`{name}`" for name in sorted(settings.to_document(PROJECT)))
MONITORING = "\n".join(f"`{name}`" for name in sorted(metrics.to_document()))

#: Kind, the file that it stands in, a broken reference of the kind, and a like one that is right.
EXAMPLES = (
    ("invariant", "workers/x.py", "held by I99", "held by I7"),
    ("decision", "workers/x.py", "see ADR 999", "see ADR 12"),
    ("decision", "docs/x.md", "as ADRs 2, 3 and\n999 say", "as ADRs 2, 3 and\n12 say"),
    ("decision", "docs/x.md", "(ADR\n999)", "(ADR\n12)"),
    ("document elsewhere", "tasks/x.py", "see DESIGN.md §2", "see the design"),
    ("document elsewhere", "docs/adr/x.md", "(DESIGN, §2)", "(by design)"),
    ("link", "docs/guides/x.md", "[how](nowhere.md)", "[how](how-to.md)"),
    ("link", "docs/guides/x.md", "[how](../../README.txt)", "[how](../../README.md)"),
    ("link", "docs/guides/x.md", "[how](how-to.md#no-such-thing)", "[how](how-to.md#hear-of-dead-letters)"),
    ("link", "docs/guides/x.md", "# A heading\n[up](#another)", "# A heading\n[up](#a-heading)"),
    ("link", "docs/x.md", "# A\n```\n# no heading\n```\n[up](#no-heading)", "# A\n[up](#a)"),
    ("link", "docs/x.md", "# A\n# A\n[up](#a-2)", "# A\n# A\n[up](#a-1)"),
    ("link", "docs/guides/x.md", "[how](how-to.md the guide)", "[how](how-to.md)"),
    ("link", "docs/guides/x.md", "[how]()", "[how](how-to.md)"),
    ("link", "examples/flask_bot/README.md", "[how](../docs/guides/how-to.md)", "[how](../../docs/guides/how-to.md)"),
    ("link", "README.md", "[ADR 3](docs/adr/0002-governed-transport.md)", "[ADR 2](docs/adr/0002-governed-transport.md)"),
    ("address", "docs/x.md", "[docs](https:/docs.celeryq.dev/)", "[docs](https://docs.celeryq.dev/)"),
    ("address", "docs/x.md", "[docs](htps://docs.celeryq.dev/)", "see https://docs.celeryq.dev/."),
    ("address", "docs/x.md", "[docs](http://docs.celeryq.dev/)", "the page http://127.0.0.1:5555/tasks"),
    ("address", "docs/x.md", "see https://docs,celeryq.dev/", "see https://docs.celeryq.dev/, and"),
    ("address", "docs/x.md", "see https://docs.celeryq.dev:port/", "see https://docs.celeryq.dev:443/"),
    ("address", "docs/x.md", "see https://docs/", "`https://docs/`"),
    ("path", "workers/x.py", "see workers/nothing.py", "see workers/http/requests.py"),
    ("path", "docs/x.md", "`tasks/providers/<provider>.txt`", "`tasks/providers/<provider>.py`"),
    ("path", "docs/x.md", "docs/adr/0099-*.md", "docs/adr/0012-*.md"),
    ("path", "docs/x.md", "`workers/governor/lua/nothing/`", "`workers/governor/lua/`"),
    ("path", "workers/x.py", "reads ``nothing.lua``", "reads ``move_dead.lua``"),
    ("path", "workers/x.py", "workers/http/requests.py::Nothing", "workers/http/requests.py::RequestsSender"),
    (
        "path", "docs/x.md", "`tests/integration/workers/governor/test_settle.py::TestOnce::test_nothing`",
        "`tests/integration/workers/governor/test_settle.py::TestOnce::test_a_second_settle_is_stale`",
    ),
    ("name", "workers/x.py", "see ``workers.nothing``", "see ``workers.http``"),
    ("name", "workers/x.py", ":class:`tasks.grants.Nothing`", ":class:`~tasks.grants.Grant`"),
    ("name", "workers/x.py", "``tasks.grants.Grant.nothing``", "``tasks.grants.Grant.put_back``"),
    ("name", "workers/x.py", "the key `postback.nothing`", "the key `postback.revoked`"),
    ("name", "workers/x.py", "see :meth:`stop`", "see :meth:`stop`\n    def stop(self):"),
    ("variable", "docs/x.md", "set POSTBACK_NOTHING", "set POSTBACK_BROKER_URL"),
    ("variable", "docker-compose.yml", "FLOWER_NOTHING: 1", "FLOWER_BASIC_AUTH: 1"),
    ("variable", "docs/x.md", "FLOWER_NOTHING", "FLOWER_MAX_TASKS"),
    ("word", "docs/x.md", "`max_nothing_s`", "`max_wait_s`"),
    ("word", "README.md", "the header `no_such_header`", "its name is `possible_duplicate`"),
    ("account key", "docs/x.md", '`nothing = "plan"`', '`quota = "plan"`'),
    (
        "account key", "docs/x.md", '```toml\n[tgtrack.main]\nnothing = 1\n```',
        '```toml\n[tgtrack.main]\ngoal_days = 1\n```',
    ),
    ("account key", "docs/x.md", "| key | default |\n|---|---|\n| `nothing` | 1 |", "| key |\n|---|\n| `limits` |"),
    ("account key", "config/accounts.example.toml", "# nothing = 1", "# max_queued = 0"),
    (
        "undocumented setting", "docs/reference/README.md",
        REFERENCE.replace("`POSTBACK_METRICS_ACCOUNTS`", "one"), REFERENCE,
    ),
    ("undocumented setting", "docs/reference/README.md", REFERENCE.replace("`goal_days`", "one"), REFERENCE),
    ("metric", "docs/x.md", "`postback_nothing`", "`postback_dead_letters`"),
    ("metric", "docs/x.md", "the counter `postback_died_events`", "the counter `postback_died_events_total`"),
    ("metric", "docs/x.md", "the fixture `postback_inbox`", "the fixture `postback_outbox`, `postback_provider_…`"),
    (
        "metric", "config/monitoring/prometheus/alerts.yml", "expr: rate(postback_nothing_total[5m]) > 0",
        "expr: rate(postback_worker_request_seconds_bucket[5m]) > 0",
    ),
    ("metric", "config/monitoring/prometheus/alerts.yml", "expr: postback_outbox > 0", "expr: postback_paused > 0"),
    (
        "metric", "config/monitoring/grafana/dashboards/postback.json", '"expr": "sum(postback_nothing)"',
        '"expr": "sum(postback_workers)"',
    ),
    (
        "undocumented metric", "docs/guides/monitoring.md",
        MONITORING.replace("`postback_died_events_total`", "one"), MONITORING,
    ),
    ("command", "docs/x.md", "`postback nothing`", "`postback status`"),
    ("command", "docs/x.md", "`postback dead nothing`", "`postback dead list`"),
    ("command", "docs/x.md", "`postback status --nothing`", "`postback status --json`"),
    ("command", "docs/x.md", "`postback dead list | nothing`", "`postback dead list | replay | drop`"),
    ("command", "docs/x.md", "`postback sandbox --nothing`", "`postback sandbox --port 8900`"),
    ("command", "docs/x.md", "`postback dead list nobody --json`", "`postback dead list tgtrack --json`"),
    ("command", "docs/x.md", "```\nA=b postback nothing  # now\n```", "```\nA=b postback status  # now\n```"),
    ("command", "workers/x.py", 'f"say `postback nothing {queue}`"', 'f"say `postback resume {queue}`"'),
    ("command", "postback/cli/x.py", '"postback status\\npostback nothing"', '"postback status\\npostback check"'),
    ("target", "docs/x.md", "`make nothing`", "`make test`"),
    ("target", "docs/x.md", "```\nmake test NOTHING=1\n```", "```\nmake test TESTS=tests/unit\n```"),
    ("module", "Procfile", "x: python -m workers.nothing", "x: python -m workers.flower"),
    ("module", "docs/x.md", "`python -m workers.http`", "`python -m workers`"),
    ("module", "docs/x.md", "`python -m no_such_program`", "`python -m pytest`"),
    ("module", "docs/x.md", "`python -m tests.chaos --nothing 1`", "`python -m tests.chaos --minutes 1`"),
    ("module", "docs/x.md", "`celery -A workers.nothing worker`", "`celery -A workers.app worker`"),
)  # fmt: skip


def test_every_reference_leads_somewhere() -> None:
    """No text of the project refers to what is not there."""
    lost = [str(one) for text in PROJECT.texts() if text.path not in SKIPPED for one in broken(PROJECT, text)]
    assert not lost, "\n" + "\n".join(lost)


@pytest.mark.parametrize(("kind", "path", "wrong", "right"), EXAMPLES, ids=[example[2][:40] for example in EXAMPLES])
def test_a_broken_one_is_found(kind: str, path: str, wrong: str, right: str) -> None:
    """A reference to nothing is found, with its kind; a like one to something is not."""
    assert [one.kind for one in broken(PROJECT, Text(path, wrong))] == [kind]
    assert broken(PROJECT, Text(path, right)) == []


def test_every_kind_has_an_example() -> None:
    """No rule is without a text that breaks it."""
    assert {example[0] for example in EXAMPLES} == set(RULES)


def test_where_it_stands() -> None:
    """A broken reference is reported with its file and line."""
    (one,) = broken(PROJECT, Text("docs/x.md", "one\ntwo\n`make nothing`\n"))
    assert str(one) == "docs/x.md:3: target `make nothing`: no such target: nothing"


def test_texts() -> None:
    """The check reads code, scripts, documents and the files around them, and no operator's
    file.
    """
    paths = {text.path for text in PROJECT.texts()}
    assert {
        "ARCHITECTURE.md",
        "Makefile",
        "Procfile",
        ".ci/run",
        "docker-compose.yml",
        "postback/wire/keys.py",
    } <= paths
    assert any(path.endswith(".lua") for path in paths)
    assert not {path for path in paths if path.startswith(".venv") or path == "config/accounts.toml"}


@pytest.mark.parametrize("number", range(1, 12))
def test_an_invariant_names_what_holds_it(number: int) -> None:
    """Each invariant names a function or class and a test, or says that it is not held yet."""
    (sentence,) = re.findall(rf"^- \*\*I{number} .*?(?=^- |^$)", PROJECT.read("ARCHITECTURE.md"), re.M | re.S)
    held = re.search(r"`(?:config|tasks|workers)/\S+::\w+", sentence) and re.search(r"`tests/\S+", sentence)
    assert held or "Not yet: " in sentence
