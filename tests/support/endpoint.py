"""
What the container of Inference Endpoints does with a repository's handler.py: it imports the file by its path, makes
an EndpointHandler of the folder, and calls it with the JSON of each request. As a program, with a folder as its
argument, it reads a list of requests from standard input and prints the list of answers.
"""

import importlib.util
import json
import sys
from pathlib import Path

NAME = "handler.EndpointHandler"  # of the module, as the container has it


def load_handler(folder: Path | str):
    """The handler of a folder; the folder is on the path of modules from then on."""
    spec = importlib.util.spec_from_file_location(NAME, Path(folder, "handler.py"))
    sys.path.insert(0, str(folder))
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def ask(handler, request: str) -> dict:
    """The status and the JSON of the answer to a request's JSON."""
    try:
        return {"status": 200, "body": json.loads(json.dumps(handler(json.loads(request))))}
    except Exception as error:
        return {"status": 400, "body": {"error": str(error)}}


if __name__ == "__main__":
    sys.modules["hf_gpt_scratch"] = None  # importing it fails from here on
    handler = load_handler(sys.argv[1])
    print(json.dumps([ask(handler, json.dumps(request)) for request in json.loads(sys.stdin.read())]))
