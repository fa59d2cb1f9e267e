"""The objects of one S3 bucket: read, write, list, delete, with the errors of S3 translated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zoo.errors import StorageError, UnreachableError

READS = 4  # attempts to read an object whose answer breaks off


class Bucket:
    """A bucket of S3, or of a server with the same protocol."""

    def __init__(self, name: str, client: Any = None) -> None:
        """Take the name of a bucket and a boto3 client; without one, a client is made."""
        self.name = name
        self._client = client if client is not None else _new_client()

    def url(self, key: str) -> str:
        """Return the address of a key, for messages."""
        return f"s3://{self.name}/{key}".rstrip("/")

    def get(self, key: str) -> tuple[bytes | None, str]:
        """Return the content and the tag of an object; None and an empty tag if there is none.

        Raises:
            UnreachableError: There was no answer, or every answer broke off.
            StorageError: S3 refuses.
        """
        from botocore.exceptions import (
            ClientError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )
        from urllib3.exceptions import HTTPError

        broken_off = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, HTTPError)
        with s3_errors("read", self.url(key)):
            for attempt in range(1, READS + 1):
                answer = None
                try:
                    answer = self._client.get_object(Bucket=self.name, Key=key)
                    return answer["Body"].read(), answer["ETag"]
                except ClientError as error:
                    if _code(error) == "NoSuchKey":
                        return None, ""
                    raise
                except broken_off as error:
                    # boto3 repeats a request that gets no answer, but not one whose answer breaks
                    # off.
                    unanswered = answer is None and isinstance(error, ReadTimeoutError)
                    if unanswered or attempt == READS:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def put(self, key: str, content: bytes, condition: Mapping[str, str] | None = None) -> bool:
        """Write an object and return whether its condition held.

        Args:
            key: Where.
            content: What.
            condition: `IfMatch` with a tag, or `IfNoneMatch` with `*`; without one it always holds.

        Raises:
            UnreachableError: There was no answer.
            StorageError: S3 refuses.
        """
        from botocore.exceptions import ClientError

        with s3_errors("write", self.url(key)):
            try:
                self._client.put_object(
                    Bucket=self.name, Key=key, Body=content, **(condition or {})
                )
                return True
            except ClientError as error:
                # NoSuchKey: the object of this tag has been deleted meanwhile.
                lost = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
                if condition and _code(error) in lost:
                    return False
                raise

    def entries(self, prefix: str) -> list[dict[str, Any]]:
        """Return the entry of each object whose key begins so: `Key`, `LastModified` and others.

        Raises:
            UnreachableError: There was no answer.
            StorageError: S3 refuses.
        """
        with s3_errors("list", self.url(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix
            )
            return [entry for page in pages for entry in page.get("Contents", [])]

    def delete(self, key: str) -> None:
        """Delete an object.

        Raises:
            UnreachableError: There was no answer.
            StorageError: S3 refuses.
        """
        with s3_errors("remove", self.url(key)):
            self._client.delete_object(Bucket=self.name, Key=key)


@contextmanager
def s3_errors(verb: str, url: str) -> Iterator[None]:
    """Turn an error of boto3 into one that says what S3 refused, where, and what to do.

    Raises:
        UnreachableError: There was no answer.
        StorageError: Any other error of boto3.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
    )
    from urllib3.exceptions import HTTPError  # boto3 does not catch it where an answer breaks off

    try:
        yield
    except ClientError as error:
        advice = {
            "NoSuchBucket": "there is no such bucket; make it, or set ZOO_SHELF to another",
            "AccessDenied": "access denied; the credentials in use need s3:GetObject, s3:PutObject "
            "and s3:ListBucket there",
        }.get(_code(error), f"{error}; correct it, then run the same command again")
        raise StorageError(f"Cannot {verb} {url}: {advice}.") from error
    except NoCredentialsError as error:
        raise StorageError(
            f"Cannot {verb} {url}: there are no AWS credentials; run `aws configure` or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except (ConnectionError, HTTPClientError, HTTPError) as error:
        raise UnreachableError(
            f"Cannot {verb} {url}: {error}. Check the network and AWS_ENDPOINT_URL."
        ) from error
    except BotoCoreError as error:
        raise StorageError(f"Cannot {verb} {url}: {error}. Check the AWS configuration.") from error


def _new_client() -> Any:
    import boto3
    from botocore.config import Config

    # The default of boto3 is to wait for a minute in each of five attempts.
    retries = {"mode": "standard", "max_attempts": 4}
    return boto3.client("s3", config=Config(connect_timeout=5, read_timeout=20, retries=retries))


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
