"""Errors for people: each is one plain sentence that says what is wrong and what to do."""

from typing import Any


class UserError(Exception):
    """Report something that the person at the screen can act on, in one plain sentence."""


class ConfigError(UserError, ValueError):
    """Report a setting that cannot be used."""


class ImageError(UserError, ValueError):
    """Report an image that cannot be read or saved."""


class RecordError(UserError, ValueError):
    """Report a picture whose run record cannot be used."""


class DatasetError(UserError, ValueError):
    """Report a folder of images that cannot be used as a dataset."""


class StudyError(UserError, ValueError):
    """Report a study that cannot be made as requested."""


class WeightsError(UserError, RuntimeError):
    """Report network weights that are not available.

    Args:
        problem: which weights are missing and why, without a full stop.
        remedy: what to do, without a full stop.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)  # both, so that it can be pickled
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}."


class TransferError(UserError, RuntimeError):
    """Report a run that cannot continue.

    Args:
        message: the sentence.
        progress: the last good `Progress` of the run, None before the first step.
    """

    def __init__(self, message: str, progress: Any = None) -> None:
        super().__init__(message)
        self.progress = progress


class RunnerError(UserError, RuntimeError):
    """Report that no run can be carried out any more, for instance because the cluster is gone."""


class LostRunError(UserError, RuntimeError):
    """Report a run whose workers were lost again and again."""


class BusyError(UserError, RuntimeError):
    """Report that there is no room for another request at the moment."""
