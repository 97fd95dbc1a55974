"""What only the command line refuses."""

from __future__ import annotations

from dagmaster.errors import Refused


class UsageInvalid(Refused):
    """{problem}"""

    code = "USAGE_INVALID"
    remedy = "dagmaster --help"
    explanation = "The words of the command do not fit together: an unknown command or option, or a missing argument."


class ParamsRefused(Refused):
    """The handler `{handler}` does not take these params: {problem}."""

    code = "PARAMS_REFUSED"
    remedy = "Give each as -i key=value; dagmaster handlers --json lists what a handler takes."
    explanation = "A handler that is tried out gets its params as they are given; nothing ran."


class ProjectFileExists(Refused):
    """{count} file(s) that a new project needs are there already; nothing was written."""

    code = "PROJECT_FILE_EXISTS"
    remedy = "Name another folder: dagmaster init DIR"
    explanation = "`dagmaster init` never overwrites: it makes all files of a project, or none."


class ProjectNameInvalid(Refused):
    """A project cannot be named `{name}`: {problem}."""

    code = "PROJECT_NAME_INVALID"
    remedy = "Name it: dagmaster init DIR --name my_handler"
    explanation = (
        "The name becomes that of a Python file, a handler and a workflow: small letters, digits and `_`, beginning "
        "with a letter, and not that of a bundled handler or workflow."
    )
