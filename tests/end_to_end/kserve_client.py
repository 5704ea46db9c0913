"""What KServe's own clients get from a service, printed as JSON. Run by a Python that has them.

``kserve_client.py URL GRPC MODEL MANIFEST ROWS``, with the rows as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(model: str, rows: Any, datatype: str, *, binary: bool) -> InferRequest:
    kind = {"FP32": np.float32, "FP64": np.float64}[datatype]
    tensor = InferInput("features", list(np.shape(rows)), datatype)
    tensor.set_data_from_numpy(np.array(rows, dtype=kind), binary_data=binary)
    return InferRequest(model, [tensor], request_id="one")


async def main(url: str, grpc: str, model: str, manifest: str, rows: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"answers": []}
    async with (
        InferenceGRPCClient(grpc) as calls,
        InferenceRESTClient(RESTConfig(protocol="v2")) as rest,
    ):
        found["ready"] = [
            await calls.is_server_live(), await calls.is_server_ready(),
            await calls.is_model_ready(model), await rest.is_server_live(url),
            await rest.is_server_ready(url), await rest.is_model_ready(url, model),
        ]  # fmt: skip
        for datatype in ("FP32", "FP64"):
            for binary in (True, False):
                asked = request(model, rows, datatype, binary=binary)
                by_grpc = await calls.infer(asked, headers=[("x-assay-manifest", manifest)])
                by_rest = await rest.infer(
                    url, asked, model_name=model, headers={"x-assay-manifest": manifest}
                )
                for answer in (by_grpc, by_rest):
                    (output,) = answer.outputs
                    found["answers"].append(
                        [answer.id, answer.model_name, output.as_numpy().tolist()]
                    )
        try:
            await calls.infer(asked)
        except Exception as error:
            found["refused"] = str(error)
    return found


if __name__ == "__main__":
    *texts, data = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(main(*texts, json.loads(data)))) + "\n")
