"""The configuration: what is read, what is refused, and that Pulumi.yaml says the same.

Must not create anything.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pytest
import yaml

from fleet.config import ConfigError, FleetConfig, WorkerGroup, read_config

INFRA = Path(__file__).resolve().parents[1]
PLAIN = {field.name for field in fields(FleetConfig)} - {"stack", "region", "workers", "dedicated", "environment"}
MINIMAL = {"allowedCidrs": ["203.0.113.0/24"]}


def test_defaults_are_small_machines_in_singapore() -> None:
    config = _read(MINIMAL)

    assert config.region == "ap-southeast-1"
    assert config.brokers == 1
    assert {config.broker_instance_type, config.store_instance_type, config.web_instance_type} == {"t3.small"}
    assert set(config.workers) == {"high", "normal", "low"}


def test_pulumi_yaml_declares_the_same_defaults() -> None:
    declared = yaml.safe_load((INFRA / "Pulumi.yaml").read_text())["config"]
    region = declared.pop("aws:region")
    defaults = FleetConfig(allowed_cidrs=("192.0.2.0/24",))

    ours = {_camel(field.name): getattr(defaults, field.name) for field in fields(defaults) if field.name in PLAIN}
    types = {int: "integer", str: "string", tuple: "array"}

    assert region == {"value": defaults.region}
    assert {name: item["default"] for name, item in declared.items()} == ours | {"allowedCidrs": []}
    assert {name: item["type"] for name, item in declared.items()} == {
        name: types[type(value)] for name, value in ours.items()
    }


def test_the_chapter_lists_the_same_settings() -> None:
    declared = yaml.safe_load((INFRA / "Pulumi.yaml").read_text())["config"]
    del declared["aws:region"]
    page = (INFRA.parent / "DOC" / "Lab-03" / "pulumi.md").read_text()

    listed = dict(re.findall(r"^\| `(\w+)` \| ((?:array|string|integer)[^|]* \|[^|]*)\|", page, re.MULTILINE))
    ours = {name: (item["type"], json.dumps(item["default"]).strip('"')) for name, item in declared.items()}

    assert {name: _listed(text) for name, text in listed.items()} == ours


def test_one_worker_group_may_differ_from_the_others() -> None:
    config = _read({**MINIMAL, "workers": {"high": {"maximum": 8, "instanceType": "t3.medium"}}})

    assert config.workers["high"] == WorkerGroup(maximum=8, instance_type="t3.medium")
    assert config.workers["low"] == WorkerGroup()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"allowedCidrs": []}, "allowedCidrs is empty"),
        ({"allowedCidrs": ["everyone"]}, "'everyone'"),
        ({"allowedCidrs": ["0.0.0.0/0"]}, "without certificateArn"),
        ({"brokers": 2}, "brokers=2"),
        ({"webMinimum": 5}, "webMinimum=5"),
        ({"webInstanceType": "m5.large"}, "webInstanceType='m5.large'"),
        ({"workers": {"urgent": {}}}, "expected exactly high, normal, low"),
        ({"workers": {"low": {"minimum": 4}}}, "minimum 4, maximum 3"),
        ({"workers": {"low": {"minimum": "1"}}}, "workers.low.minimum='1'"),
        ({"workers": {"low": {"size": 1}}}, "unknown size"),
        ({"workers": ["low"]}, "expected an object"),
        ({"dedicated": {"E-Mail": {}}}, "'E-Mail'"),
        ({"environment": {"smtp host": "x"}}, "'smtp host'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _read({**MINIMAL, **wrong})

    assert named in str(refused.value)


def _read(values: dict[str, Any]) -> FleetConfig:
    texts = {f"taskservice:{name}": v if isinstance(v, str) else json.dumps(v) for name, v in values.items()}
    pulumi.runtime.set_all_config(texts)
    return read_config(pulumi.Config("taskservice"), stack="test")


def _listed(text: str) -> tuple[str, str]:
    type_, _, default = text.partition("|")
    return type_.split()[0], default.strip().strip("`")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
