"""What lies outside the machines: the bucket of the files and the repository of the image.

Must not be readable by anyone but the fleet's own role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from fleet.config import FleetConfig


@dataclass(frozen=True, slots=True)
class Storage:
    bucket: aws.s3.Bucket
    repository: aws.ecr.Repository

    def image(self, tag: str) -> pulumi.Output[str]:
        return pulumi.Output.concat(self.repository.repository_url, ":", tag)


def create_storage(config: FleetConfig) -> Storage:
    bucket = aws.s3.Bucket("files", bucket_prefix=f"{config.prefix}-files-")
    aws.s3.BucketPublicAccessBlock(
        "files",
        bucket=bucket.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
    )
    aws.s3.BucketServerSideEncryptionConfiguration(
        "files",
        bucket=bucket.id,
        rules=[
            aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                apply_server_side_encryption_by_default=(
                    aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                        sse_algorithm="AES256"
                    )
                )
            )
        ],
    )
    aws.s3.BucketPolicy("files", bucket=bucket.id, policy=pulumi.Output.json_dumps(_only_encrypted(bucket)))
    _forget_broken_uploads(bucket)
    repository = aws.ecr.Repository(
        "image",
        name=config.prefix,
        image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
    )
    return Storage(bucket=bucket, repository=repository)


def _forget_broken_uploads(bucket: aws.s3.Bucket) -> None:
    """What a web that died left behind: the service writes a file under this name first."""
    aws.s3.BucketLifecycleConfiguration(
        "files",
        bucket=bucket.id,
        rules=[
            aws.s3.BucketLifecycleConfigurationRuleArgs(
                id="broken-uploads",
                status="Enabled",
                filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix="files/.upload-"),
                expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=1),
                abort_incomplete_multipart_upload=(
                    aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(days_after_initiation=1)
                ),
            )
        ],
    )


def _only_encrypted(bucket: aws.s3.Bucket) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket.arn, pulumi.Output.concat(bucket.arn, "/*")],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
