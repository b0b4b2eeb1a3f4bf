"""What the rows of the catalogue are written with: names of methods, and bodies of answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

# name, what it strikes, effect, what happens, and the effect's fields
Row = tuple[str, str, str, str, Mapping[str, Any]]
# its title, each row's chance to strike a call that it matches in chaos, and the rows
Group = tuple[str, float, Sequence[Row]]

EACH = "*"
PUSH = "SaveKernel"
STATUS = "GetKernelSessionStatus"
KERNEL = "GetKernel"
OUTPUTS = "ListKernelSessionOutput"
QUOTA = "GetAcceleratorQuotaStatistics"
CREATE = "CreateDataset"
VERSION = "CreateDatasetVersion"
DATASET = "GetDataset"
DATASET_STATUS = "GetDatasetStatus"
DATASET_FILES = "ListDatasetFiles"
START_UPLOAD = "StartBlobUpload"
TOKEN = "IntrospectToken"  # noqa: S105 - a method's name
UPLOAD = "/upload/"
FILES = "/kf/|/kaggle-data-sets/"
PUBLISH = f"{VERSION}|{CREATE}"
LISTS = f"{OUTPUTS}|{DATASET_FILES}"

NONE: Mapping[str, Any] = {}


def page(text: str) -> str:
    """An error as a page for people."""
    return f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"


def refused(message: str) -> Mapping[str, Any]:
    """A refusal in the fields of an answer, as Kaggle sends it with 200."""
    answer = {"ref": "", "url": "", "error": message, "hasError": True, "errorNullable": message}
    return {"body": json.dumps(answer)}


def denied(permission: str) -> Mapping[str, Any]:
    """What Kaggle answers for something foreign and for something missing alike."""
    body = {"code": 403, "message": f"Permission '{permission}' was denied"}
    return {"status": 403, "body": json.dumps(body)}
