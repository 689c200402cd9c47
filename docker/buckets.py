"""``buckets.py NAME...``: makes the buckets that are not there yet.

Reads the address from ``AWS_ENDPOINT_URL_S3`` and the keys from the environment, as boto3 does.
"""

from __future__ import annotations

import sys

import boto3


def main(names: list[str]) -> None:
    """Make each bucket; one that is there already is left as it is."""
    client = boto3.client("s3")
    found = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in names:
        if name in found:
            print(f"bucket {name} is there")
        else:
            client.create_bucket(Bucket=name)
            print(f"made bucket {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
