"""gr.Blocks that tells of errors in one sentence, fetches nothing, and keeps nothing of what is sent."""

import logging
import traceback
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.state_holder import SessionState
from gradio_client import utils as client_utils

from nst.errors import UserError, WeightsError

FAILED = "This did not work: please check your images and settings, and try again."

logger = logging.getLogger("nst")


class GuardedBlocks(gr.Blocks):
    """Do what gr.Blocks does, with every error as one plain sentence.

    Gradio would print what was sent to the log, repeat it to the visitor, and download every address that is
    sent in place of a file.
    """

    async def process_api(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Handle an event.

        Raises:
            gr.Error: the event failed; it has a sentence for the visitor, and the log has nothing of theirs.
        """
        try:
            return await super().process_api(*arguments, **named)
        except gr.Error as error:
            if not error.print_exception:
                raise
            raise plain_error(error) from error  # one of Gradio's own, which repeats what was sent
        except Exception as error:
            raise plain_error(error) from error
        finally:
            if state := named.get("state"):
                state.config_values.clear()  # every value, for links to a page's state, which are closed

    async def preprocess_data(
        self,
        block_fn: BlockFunction,
        inputs: list[Any],
        state: SessionState | None,
        explicit_call: bool = False,
    ) -> list[Any]:
        """Turn what was sent into a handler's arguments.

        Raises:
            gr.Error: a file is an address, which Gradio would download.
        """
        client_utils.traverse(inputs, _refuse_address, client_utils.is_file_obj_with_meta)
        values: list[Any] = await super().preprocess_data(block_fn, inputs, state, explicit_call)
        return values


def _refuse_address(file: dict[str, Any]) -> dict[str, Any]:
    if client_utils.is_http_url_like(file["path"]):
        raise gr.Error("Please send pictures as files: this server fetches none.", print_exception=False)
    return file


def plain_error(error: Exception) -> gr.Error:
    """Turn an exception into what the visitor is told; the log has what only the host can act on."""
    if not isinstance(error, UserError):
        logger.warning(describe_error(error))
        return gr.Error(FAILED, print_exception=False)
    if isinstance(error, WeightsError):
        logger.warning(error)
    return gr.Error(sentence_for_visitors(error), print_exception=False)


def sentence_for_visitors(error: UserError) -> str:
    """Say what went wrong, to somebody who can't install files on this server."""
    if isinstance(error, WeightsError):
        return "This network is not available here: please choose another network."
    return str(error)


def describe_error(error: BaseException) -> str:
    """Say what kind of error it was and where, without its words, which may be the visitor's."""
    *_, last = traceback.walk_tb(error.__traceback__)
    return f"a request failed: {type(error).__name__} in {last[0].f_code.co_qualname}"


class WithoutWords(logging.Filter):
    """Replace exceptions in a log by their kind and place."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record, and let it pass."""
        if record.exc_info and record.exc_info[1]:
            record.msg, record.args, record.exc_info = describe_error(record.exc_info[1]), (), None
        return True
