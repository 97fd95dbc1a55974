"""Every way dagmaster says no: one tree, one class per thing a caller can act on.

The docstring of a class is its message; `{words}` in it are filled from the keyword arguments. A class
carries the stable `code`, whether a retry helps, and the default remedy; the place that raises adds
`where`, `why` and a sharper `remedy`. `dagmaster explain CODE` prints `explanation`.
"""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Iterator
from typing import Any, ClassVar


class DagmasterError(Exception):
    """Something went wrong that dagmaster did not foresee."""

    code: ClassVar[str] = "UNEXPECTED_ERROR"
    retryable: ClassVar[bool] = False
    remedy: str = "Look at the log of the process that printed this, and report it with the job id."
    explanation: ClassVar[str] = "An error without a class of its own. It is a fault of dagmaster or of a handler."

    def __init__(
        self,
        message: str | None = None,
        *,
        where: str | None = None,
        why: str | None = None,
        remedy: str | None = None,
        node: str | None = None,
        **facts: Any,
    ) -> None:
        template = inspect.cleandoc(type(self).__doc__ or "")
        self.message = message if message is not None else template.format(**facts)
        self.where = where
        self.why = why
        if remedy is not None:
            self.remedy = remedy
        self.node = node
        self.facts = facts
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        """The error object of every JSON surface: code, message, where, why, remedy, retryable, node."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "why": self.why,
            "remedy": self.remedy,
            "retryable": self.retryable,
            "node": self.node,
        }


# --- refused before a job exists -------------------------------------------------------------------


class Refused(DagmasterError):
    """The request was refused."""

    code = "REFUSED"
    remedy = "Correct what the message names and send it again."
    explanation = "Nothing was created and nothing ran. The message names every fault that was found."


class WorkflowUnknown(Refused):
    """No workflow is named `{workflow_id}`."""

    code = "WORKFLOW_UNKNOWN"
    remedy = "dagmaster workflow list"
    explanation = "A workflow is named by its id (see `dagmaster workflow list`) or by the path of a YAML file."


class WorkflowInvalid(Refused):
    """The workflow definition has {count}: {first}."""

    code = "WORKFLOW_INVALID"
    remedy = "dagmaster workflow check FILE"
    explanation = "The static check found errors. Each has a file, a line, a node and a fix."


class InputInvalid(Refused):
    """Input `{name}`: {problem}."""

    code = "INPUT_INVALID"
    remedy = "dagmaster workflow show WORKFLOW lists the inputs with their types."
    explanation = "An input has the wrong type, is not one of the allowed values, or breaks its declared bounds."


class InputMissing(Refused):
    """Input `{name}` is required and was not given."""

    code = "INPUT_MISSING"
    remedy = "Give it: -i {name}=VALUE"
    explanation = "The workflow declares this input as required and gives no default."


class InputUnknown(Refused):
    """The workflow has no input `{name}`."""

    code = "INPUT_UNKNOWN"
    remedy = "dagmaster workflow show WORKFLOW lists the inputs."
    explanation = "Inputs that the workflow does not declare are refused, so that a typing error is never ignored."


class InputsInvalid(Refused):
    """{count} inputs were refused: {summary}."""

    code = "INPUTS_INVALID"
    remedy = "dagmaster workflow show WORKFLOW lists the inputs with their types."
    explanation = "Several inputs are wrong. Each is listed with its own code and remedy, so that one answer is enough."


class ExpressionInvalid(Refused):
    """The expression `{expression}` is not part of the language: {problem}."""

    code = "EXPRESSION_INVALID"
    remedy = "Correct the expression; docs/reference/workflow-language lists what it may hold."
    explanation = (
        "Expressions are a small part of Jinja: names, keys, operators, a few filters and tests. Nothing is called."
    )


class HandlerUnknown(Refused):
    """No handler is named `{handler}`."""

    code = "HANDLER_UNKNOWN"
    remedy = "dagmaster handlers"
    explanation = "No bundled handler and no live worker offers a handler of this name."


class PathRefused(Refused):
    """`{path}` is not a path that may be read or written here."""

    code = "PATH_REFUSED"
    remedy = "Name the file below its container, without `..`, a leading `/`, or a scheme."
    explanation = "References must stay inside their container; absolute paths, `..` and links out of it are refused."


# --- the world around --------------------------------------------------------------------------------


class SettingMissing(DagmasterError):
    """The setting {variable} is not set."""

    code = "SETTING_MISSING"
    remedy = "Set the variable and start again."
    explanation = "A deployed profile has no silent defaults: the process stops and names the variable."


class SettingInvalid(DagmasterError):
    """The setting {variable} cannot be used: {problem}."""

    code = "SETTING_INVALID"
    remedy = "Correct the variable and start again."
    explanation = "A setting is checked when its process starts, so that a wrong one is named at once."


class DatabaseUnreachable(DagmasterError):
    """No answer from Postgres at {address}."""

    code = "DATABASE_UNREACHABLE"
    retryable = True
    remedy = "dagmaster doctor"
    explanation = "The control plane keeps all state in Postgres. Every command is safe to repeat once it answers."


class DatabaseStartFailed(DagmasterError):
    """The embedded Postgres did not start in {data}."""

    code = "DATABASE_START_FAILED"
    remedy = "dagmaster doctor"
    explanation = "The server's own last log lines are in the message's why."


class ServiceUnreachable(DagmasterError):
    """No dagmaster answers at {url}."""

    code = "SERVICE_UNREACHABLE"
    retryable = True
    remedy = "dagmaster up"
    explanation = "The command talks to a running dagmaster. Nothing was changed; it is safe to repeat."


class DataFolderInUse(DagmasterError):
    """The data folder {data} is in use by process {pid}."""

    code = "DATA_FOLDER_IN_USE"
    retryable = True
    remedy = "Use the running one, stop it, or name another folder with --data."
    explanation = "One dagmaster at a time owns a data folder; a lock file in it says which."


class DataFolderUnusable(DagmasterError):
    """The data folder {data} cannot be used: {problem}."""

    code = "DATA_FOLDER_UNUSABLE"
    remedy = "Name a folder that you may write to with --data."
    explanation = "The folder holds the database, the storage and scratch space, so it must be writable."


class PortInUse(DagmasterError):
    """Port {port} is taken by another program."""

    code = "PORT_IN_USE"
    retryable = True
    remedy = "Choose another with --port, or leave it out to let dagmaster find a free one."
    explanation = "The API listens on loopback at a port of its own."


class NotFound(DagmasterError):
    """There is no {noun} `{id}`."""

    code = "NOT_FOUND"
    remedy = "dagmaster jobs"
    explanation = "The id is not known here, or you may not see it."


class StaleState(DagmasterError):
    """{noun} `{id}` is not in a state that allows this."""

    code = "STALE_STATE"
    remedy = "Look at its present state and decide again."
    explanation = "The row changed since it was read, or the move is not in the table of legal moves."


class DecisionUnwritable(DagmasterError):
    """What was decided for {id} cannot be stored."""

    code = "DECISION_UNWRITABLE"
    remedy = "Nothing of it was written. Look at what its last reports hold; only the job at fault is given up."
    explanation = "A value that neither JSON nor Postgres can hold, or a row that contradicts one already there."


class RequestInvalid(Refused):
    """{place}: {problem}"""

    code = "REQUEST_INVALID"
    remedy = "Correct the fields named in `problems`; /openapi.json describes them."
    explanation = "A parameter or the body does not fit what the route takes; `problems` names every field at once."


class RequestRefused(Refused):
    """The request cannot be answered: {problem}"""

    code = "REQUEST_REFUSED"
    remedy = "/openapi.json lists what there is."
    explanation = "The request is not one that any route takes, for example because its body is not readable text."


class MethodNotAllowed(Refused):
    """{method} is not a method of {path}."""

    code = "METHOD_NOT_ALLOWED"
    remedy = "/openapi.json lists what there is."
    explanation = "The path exists, and takes other methods than this one; the header `Allow` names them."


class BodyTooLarge(Refused):
    """The request's body is larger than {mib} MiB."""

    code = "BODY_TOO_LARGE"
    remedy = "Send less: large data goes into the storage, and the request names it."
    explanation = "Requests carry definitions and inputs, not data."


class IdempotencyConflict(Refused):
    """The idempotency key `{key}` was used before with another body."""

    code = "IDEMPOTENCY_CONFLICT"
    remedy = "Use a new key for a new submission."
    explanation = "The same key with the same body answers with the same job; with another body it is refused."


# --- the engine --------------------------------------------------------------------------------------


class OwnershipLost(DagmasterError):
    """This orchestrator no longer owns shard {shard}."""

    code = "OWNERSHIP_LOST"
    retryable = True
    explanation = "Another orchestrator took the shard over. What this one had decided was not written."


class EngineError(DagmasterError):
    """The decision for this job failed inside the engine."""

    code = "ENGINE_ERROR"
    remedy = "Report it with the job id; the traceback is in the job's events."
    explanation = "The job was set aside alone with its traceback; other jobs are not affected."


class ExpressionFailed(DagmasterError):
    """The expression `{expression}` could not be evaluated: {problem}."""

    code = "EXPRESSION_FAILED"
    remedy = "Correct the expression; dagmaster workflow check FILE finds most such faults before a run."
    explanation = (
        "Expressions read inputs and outputs of finished nodes. A fault in one is permanent: it is not retried."
    )


class TaskTimeout(DagmasterError):
    """The attempt ran longer than {timeout_seconds} s."""

    code = "TASK_TIMEOUT"
    retryable = True
    remedy = "Raise timeout_seconds of the node if the work is honest."
    explanation = "The clock starts when a worker begins the attempt; waiting in the queue does not count."


class QueueTimeout(DagmasterError):
    """No worker took the task within {timeout_seconds} s."""

    code = "QUEUE_TIMEOUT"
    remedy = "Start a worker that serves the queue, or raise queue_timeout_seconds."
    explanation = "The node had set queue_timeout_seconds and no worker claimed the task in time."


class WorkerLost(DagmasterError):
    """The worker that ran the attempt stopped reporting."""

    code = "WORKER_LOST"
    retryable = True
    remedy = "The attempt is repeated by itself; look at the worker's log if it happens again."
    explanation = "The lease of the attempt ran out without a renewal or a report."


class UpstreamFailed(DagmasterError):
    """Skipped because `{upstream}` failed."""

    code = "UPSTREAM_FAILED"
    remedy = "Mend the failed node and run the job again."
    explanation = "Nothing behind a failure runs by accident: nodes that need it are skipped with this reason."


class Cancelled(DagmasterError):
    """The job was cancelled."""

    code = "CANCELLED"
    remedy = "Submit it again."
    explanation = "Somebody asked for the job to stop. What had completed stays readable."


class FanOutTooWide(DagmasterError):
    """The fan-out source has {width} items; at most {width_max} are allowed."""

    code = "FAN_OUT_TOO_WIDE"
    remedy = "Group the items, so that each child does more."
    explanation = "The width of a fan-out is bounded so that one job cannot exhaust the control plane."


class FanOutSourceInvalid(DagmasterError):
    """The fan-out source is {kind}, not a list."""

    code = "FAN_OUT_SOURCE_INVALID"
    remedy = "Let the source be an expression that yields a list."
    explanation = "A fan-out makes one child per item of its source."


class ChildrenFailed(DagmasterError):
    """{failed} of {count} children of `{fan_out}` failed."""

    code = "CHILDREN_FAILED"
    remedy = "Look at the children's errors: dagmaster status JOB"
    explanation = "The failure policy of the fan-out does not allow this many failed children."


class AggregationFailed(DagmasterError):
    """The children's outputs cannot be aggregated with `{aggregation}`: {problem}."""

    code = "AGGREGATION_FAILED"
    remedy = "Choose an aggregation that fits what the children return."
    explanation = "For example, `sum` needs numbers and `concat` needs lists."


class NoEndReached(DagmasterError):
    """No end node was reached."""

    code = "NO_END_REACHED"
    remedy = "Let every route through the workflow lead to an end node."
    explanation = "Every end node was skipped although something failed on the way."


# --- handlers ----------------------------------------------------------------------------------------


class HandlerError(DagmasterError):
    """The handler failed."""

    code = "HANDLER_FAILED"
    remedy = "dagmaster logs JOB shows what the handler said."
    explanation = "A handler raised an error with no class of its own, or a handler from outside raised HandlerError."

    def __init__(
        self, message: str | None = None, *, code: str | None = None, retryable: bool | None = None, **more: Any
    ) -> None:
        super().__init__(message, **more)
        if code is not None:
            self.code = code  # type: ignore[misc]  # a handler from outside may bring its own code
        if retryable is not None:
            self.retryable = retryable  # type: ignore[misc]  # and say itself whether a retry helps


class HandlerCrashed(HandlerError):
    """The handler process ended by {cause}."""

    code = "HANDLER_CRASHED"
    retryable = True
    explanation = "The child process died under the handler. The worker lives on and the attempt is retried."


class HandlerOutputInvalid(HandlerError):
    """The handler returned something that is not its declared Output: {problem}."""

    code = "HANDLER_OUTPUT_INVALID"
    remedy = "Correct the handler so that it returns its Output model."
    explanation = "Outputs are checked against the handler's declared model and must be strict JSON."


class ParamsInvalid(HandlerError):
    """The params do not fit the handler's declared Params: {problem}."""

    code = "PARAMS_INVALID"
    remedy = "dagmaster handlers shows what the handler takes."
    explanation = "Params are checked against the handler's declared model after their templates were resolved."


class OutOfMemory(HandlerError):
    """The attempt was stopped because it used more memory than {limit_mib} MiB."""

    code = "OOM"
    retryable = True
    remedy = "Give the worker more with DAGMASTER_WORKER_MEMORY_MIB, or the task a smaller piece of the data."
    explanation = "The child process met its memory limit; the host and the worker are not affected."


class DiskFull(HandlerError):
    """No space left on {where_full}."""

    code = "DISK_FULL"
    retryable = True
    remedy = "Free space, or start a worker with more scratch."
    explanation = "Writing stopped because the file system is full. What was half written is removed."


class FileNotFound(HandlerError):
    """There is no file `{path}`."""

    code = "FILE_NOT_FOUND"
    remedy = "Check the name and the container."
    explanation = "The file that the submission names does not exist in its container."


class FileEmpty(HandlerError):
    """`{path}` has 0 bytes."""

    code = "FILE_EMPTY"
    remedy = "Upload the file again."
    explanation = "The file exists and is empty; the upload was probably interrupted."


class FileTooSmall(HandlerError):
    """`{path}` has only {size_bytes} bytes, too few for a raster."""

    code = "FILE_TOO_SMALL"
    remedy = "Upload the file again."
    explanation = "A raster cannot be smaller than 100 bytes; the upload was probably interrupted."


class InvalidFormat(HandlerError):
    """`{path}` is not a GeoTIFF."""

    code = "INVALID_FORMAT"
    remedy = "Send a GeoTIFF (.tif, .tiff, .geotiff)."
    explanation = "The content decides, not the name: only files that the GeoTIFF driver opens are accepted."


class CorruptedFile(HandlerError):
    """`{path}` is damaged: {problem}."""

    code = "CORRUPTED_FILE"
    remedy = "Upload the file again from its source."
    explanation = "The header reads but not every block does: the file is truncated or its bytes changed."


class CrsMissing(HandlerError):
    """`{path}` has no coordinate system, and the submission names none."""

    code = "CRS_MISSING"
    remedy = 'Submit again with input_crs, for example "EPSG:32633".'
    explanation = "A wrong guess would move the data, so dagmaster does not guess."


class CrsMismatch(HandlerError):
    """`{path}` says {file_crs}, the submission says {user_crs}."""

    code = "CRS_MISMATCH"
    remedy = "Leave input_crs out, or correct the file."
    explanation = "The two are different coordinate systems when compared as systems, not as text."


class CrsInvalid(HandlerError):
    """`{crs}` is not a coordinate system that PROJ knows."""

    code = "CRS_INVALID"
    remedy = 'Write an authority code, for example "EPSG:4326".'
    explanation = "Coordinate systems are given as an authority code, WKT or PROJ text."


class GeotransformMissing(HandlerError):
    """`{path}` does not say where its pixels lie."""

    code = "GEOTRANSFORM_MISSING"
    remedy = "Write a geotransform into the file (gdal_translate -a_ullr …)."
    explanation = "The geotransform is the identity or has a zero scale, so no pixel has a place on Earth."


class Raster64BitRejected(HandlerError):
    """`{path}` holds {dtype} values; 64-bit types are not accepted."""

    code = "RASTER_64BIT_REJECTED"
    remedy = "Convert to float32 or int32 (gdal_translate -ot Float32 …)."
    explanation = "64-bit and complex samples double every later cost and no client draws them."


class RasterEmpty(HandlerError):
    """`{path}` is {share_percent} % nodata: there is nothing in it."""

    code = "RASTER_EMPTY"
    remedy = "Check the source; if the nodata value is wrong, correct it in the file."
    explanation = "At least 99 % of the pixels over all blocks are nodata."


class RasterTooLarge(HandlerError):
    """`{path}` declares {declared_gib} GiB of pixels; at most {allowed_gib} GiB are accepted."""

    code = "RASTER_TOO_LARGE"
    remedy = "Split the raster, or ask the operator to raise the limit."
    explanation = "The declared size (width, height, bands, bytes per sample) is checked before any pixel is read."


class RasterExtremeValues(HandlerError):
    """`{path}` has values up to {value}, which look like an undeclared nodata value."""

    code = "RASTER_EXTREME_VALUES"
    remedy = "Declare the nodata value in the file."
    explanation = "Values of 1e30 and beyond in the data are taken for an undeclared nodata value."


class RasterBandInvalid(HandlerError):
    """`{path}` has {count} bands; 1 to 100 are accepted."""

    code = "RASTER_BAND_INVALID"
    remedy = "Send a raster with 1 to 100 bands."
    explanation = "A raster without bands, or with more than 100, cannot be catalogued."


class RasterTypeMismatch(HandlerError):
    """The submission says {hint}, but `{path}` looks like {detected}."""

    code = "RASTER_TYPE_MISMATCH"
    remedy = "Leave raster_type out (auto), or correct it."
    explanation = "A type hint may only refine what was detected; see the table in the raster reference."


class ReprojectionFailed(HandlerError):
    """`{path}` cannot be reprojected to {target_crs}: {problem}."""

    code = "REPROJECTION_FAILED"
    remedy = "Choose a target_crs that covers the data."
    explanation = "No transformation leads from the raster's coordinate system to the target's for these bounds."


class CogInvalid(HandlerError):
    """The written file is not a valid COG: {problem}."""

    code = "COG_CREATION_FAILED"
    explanation = "Every COG is validated before it is published; an invalid one is never shown."


class StorageError(HandlerError):
    """The storage did not answer as it should: {problem}."""

    code = "STORAGE_ERROR"
    retryable = True
    remedy = "It is tried again by itself."
    explanation = "Reading from or writing to the object storage failed."


class CatalogInvalid(HandlerError):
    """The STAC document is not valid: {problem}."""

    code = "CATALOG_INVALID"
    explanation = "Documents are checked before they are published; an invalid one is never shown."


def means_disk_full(problem: BaseException) -> bool:
    """Whether an error of the system, or of a library that only passes its words on, says that no space is left."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC).lower() in str(cause).lower():
            return True
        cause = cause.__cause__
    return False


def all_errors() -> Iterator[type[DagmasterError]]:
    """Every error class, parents before children."""
    waiting = [DagmasterError]
    while waiting:
        cls = waiting.pop(0)
        yield cls
        waiting.extend(cls.__subclasses__())


def by_code() -> dict[str, type[DagmasterError]]:
    """The error class of each stable code."""
    return {cls.code: cls for cls in all_errors()}
