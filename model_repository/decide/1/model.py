"""The model `decide`: KServe tensors in, decisions out, each on disk before it is given; server/triton/door.py decides.

In: requests that Triton's dynamic batcher put together. Out: one response each. Runs in Triton's Python stub, whose
environment variable STRATAGEM_DECIDE server/triton/process.py sets.
"""

import json
import os
import sys
from pathlib import Path

import triton_python_backend_utils as pb_utils

TOLD = json.loads(os.environ.get("STRATAGEM_DECIDE") or '{"path": []}')
# Behind the stub's own packages: its numpy must stay the one that it was built against.
sys.path += [folder for folder in TOLD["path"] if folder not in sys.path]

from server.triton.door import CODES, Door, Request  # noqa: E402


class TritonPythonModel:
    """One instance: a process of its own; shoppers, budget and log are shared through their folders."""

    def initialize(self, args):
        """Open what a decision needs; Triton's other models need not be ready yet."""
        self.door = Door.opened(Path(TOLD["folder"]), TOLD["triton"])
        self.names = {output["name"] for output in json.loads(args["model_config"])["output"]}

    def execute(self, requests):
        """Decide all of a batch."""
        answers = self.door.answers([self.read(request) for request in requests])
        return [self.response(answer) for answer in answers]

    def read(self, request):
        """One request's tensors."""
        tensors = {tensor.name(): tensor.as_numpy().ravel().tolist() for tensor in request.inputs()}
        return Request(
            tensors["shopper_id"],
            tensors.get("decision_id"),
            tensors.get("time_s"),
            frozenset(request.requested_output_names()) or self.names,
            request.timeout(),
        )

    def response(self, answer):
        """The tensors that were asked for, or the problem in its own words."""
        if isinstance(answer, dict):
            return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])
        code = getattr(pb_utils.TritonError, CODES.get(answer.status.name, "UNAVAILABLE"))
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer), code))

    def finalize(self):
        """Write what waits, give back what is leased."""
        self.door.close()
