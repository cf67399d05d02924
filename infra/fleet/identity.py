"""Secrets and who may read them: one Parameter Store path and one IAM role per kind of machine.

Must not let a role read what it does not use. Every value is made here or comes from the encrypted configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from fleet.config import FleetConfig

Kind = Literal["broker", "store", "service"]


@dataclass(frozen=True, slots=True)
class Profiles:
    """Instance profiles; `service` is for the web and the workers."""

    broker: aws.iam.InstanceProfile
    store: aws.iam.InstanceProfile
    service: aws.iam.InstanceProfile


def parameter_path(config: FleetConfig, kind: Kind) -> str:
    return f"/taskservice/{config.stack}/{kind}"


def metric_namespace(config: FleetConfig) -> str:
    return f"taskservice/{config.stack}"


def create_secrets(config: FleetConfig, extra: Mapping[str, pulumi.Input[str]]) -> list[aws.ssm.Parameter]:
    """`extra` is secretEnvironment: what the service alone reads, such as SMTP_PASSWORD or API keys."""
    password = _random("rabbitmq-password")
    redis_password = _random("redis-password")
    values: dict[Kind, dict[str, pulumi.Input[str]]] = {
        "broker": {
            "RABBITMQ_DEFAULT_USER": "taskservice",
            "RABBITMQ_DEFAULT_PASS": password,
            "ERLANG_COOKIE": _random("erlang-cookie"),
        },
        "store": {"REDIS_PASSWORD": redis_password},
        "service": {
            "RABBITMQ_USER": "taskservice",
            "RABBITMQ_PASSWORD": password,
            "REDIS_PASSWORD": redis_password,
            **extra,
        },
    }
    return [
        aws.ssm.Parameter(
            f"{kind}-{name}",
            name=f"{parameter_path(config, kind)}/{name}",
            type="SecureString",
            value=value,
        )
        for kind, names in values.items()
        for name, value in names.items()
    ]


def create_profiles(
    config: FleetConfig, *, bucket_arn: pulumi.Output[str], repository_arn: pulumi.Output[str]
) -> Profiles:
    account = aws.get_caller_identity_output().account_id
    send_depths = {
        "Effect": "Allow",
        "Action": "cloudwatch:PutMetricData",
        "Resource": "*",  # the action knows no resources; the condition takes their place
        "Condition": {"StringEquals": {"cloudwatch:namespace": metric_namespace(config)}},
    }
    use_files = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
        "Resource": pulumi.Output.concat(bucket_arn, "/files/*"),
    }
    list_files = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket_arn}
    log_in = {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}  # it knows no resources
    pull = {
        "Effect": "Allow",
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
        "Resource": repository_arn,
    }
    return Profiles(
        broker=_profile(config, "broker", account, [send_depths]),
        store=_profile(config, "store", account, []),
        service=_profile(config, "service", account, [use_files, list_files, log_in, pull]),
    )


def _profile(
    config: FleetConfig, kind: Kind, account: pulumi.Output[str], statements: list[dict[str, Any]]
) -> aws.iam.InstanceProfile:
    read_secrets = {
        "Effect": "Allow",
        "Action": "ssm:GetParametersByPath",
        "Resource": pulumi.Output.concat(
            f"arn:aws:ssm:{config.region}:", account, f":parameter{parameter_path(config, kind)}"
        ),
    }
    role = aws.iam.Role(kind, name_prefix=f"{config.prefix}-{kind}-", assume_role_policy=_EC2_ASSUMES)
    aws.iam.RolePolicy(
        kind,
        role=role.id,
        policy=pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": [read_secrets, *statements]}),
    )
    return aws.iam.InstanceProfile(kind, name_prefix=f"{config.prefix}-{kind}-", role=role.name)


_EC2_ASSUMES = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)


def _random(name: str) -> pulumi.Output[str]:
    """Letters and digits only: it stands in URLs and in files that a shell reads."""
    return random.RandomPassword(name, length=32, special=False).result
