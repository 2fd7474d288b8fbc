"""The page: a Gradio app around the queue of runs.

Gradio, TensorFlow and uvicorn read these variables when they are imported, so they are set before that.
"""

import os

# No calls home, and no statistics of events, which take longer with each event.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "SPACE_ID" in os.environ:  # a Hugging Face Space names its visitors' addresses in a header
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")
