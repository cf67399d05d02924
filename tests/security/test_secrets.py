"""No secret in any file of the repository, nor in any that it ever had.

Must not know the service.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

from taskservice.local.system import REPOSITORY

# All of the library's detectors of secrets with a form. Left out: those that call any random word one (two of entropy,
# which report every checksum, and keywords, which report every line that reads a password from a setting).
DETECTORS = (
    "ArtifactoryDetector", "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "CloudantDetector",
    "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector", "IbmCloudIamDetector",
    "IbmCosHmacDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector",
    "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector", "SlackDetector", "SoftlayerDetector",
    "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
OWN_FORMS = re.compile(r"tsk_[0-9a-f]{16}_[0-9a-f]{64}|whsec_[A-Za-z0-9+/]{40,}=*")  # API keys, webhook secrets
# A password in a URL that is one for everybody: what RabbitMQ ships with, examples, and what tests make up.
PUBLIC = re.compile(
    r"://[^/\s:@]*:(guest|hidden|secret|password|pass|pw|user|example|wrong|hush|s3cret|p%40ss|\*+|[<{$%(…].*)@",
    re.IGNORECASE,
)
MAX_LINE = 20_000


@pytest.fixture(scope="module")
def lines() -> dict[str, str]:
    """Every line that any version of a tracked file has, with one path that has it."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git repository, so it has no history to search")
    return dict(_lines_of_history()) | dict(_lines_of_files())


def test_no_secret_is_in_a_file_or_in_the_history(lines: dict[str, str]) -> None:
    found = []

    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        for line, path in lines.items():
            kinds = [secret.type for secret in scan_line(line)] + (["own key"] if OWN_FORMS.search(line) else [])
            found += [f"{path}: {kind}" for kind in kinds if not PUBLIC.search(line)]  # the line itself stays unsaid

    assert found == []


def test_the_search_finds_secrets() -> None:
    planted = ["AKIA" + "Q3EGPIZDS6EXLK5M", "-----BEGIN RSA " + "PRIVATE KEY-----", "amqp://root:" + "Zq81mTx@broker"]

    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        found = [bool(list(scan_line(line))) and not PUBLIC.search(line) for line in planted]

    assert found == [True] * len(planted)
    assert OWN_FORMS.search("tsk_" + "0" * 16 + "_" + "a" * 64)


def _lines_of_files() -> Iterator[tuple[str, str]]:
    for name in _git("ls-files", "-z").split("\0"):
        path = REPOSITORY / name
        if name and path.is_file():
            yield from _lines(path.read_text(encoding="utf-8", errors="replace"), name)


def _lines_of_history() -> Iterator[tuple[str, str]]:
    name = "?"
    for line in _git("log", "--all", "--patch", "--unified=0", "--no-color", "--no-renames").split("\n"):
        if line.startswith("+++ b/"):
            name = f"history of {line.removeprefix('+++ b/')}"
        elif line.startswith("+"):
            yield from _lines(line[1:], name)
    yield from _lines(_git("log", "--all", "--format=%B"), "a commit's message")


def _lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        stripped = line.strip()
        for start in range(0, len(stripped), MAX_LINE):
            yield stripped[start : start + MAX_LINE], name


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(REPOSITORY)), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")
