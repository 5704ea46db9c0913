"""The Open Inference Protocol over gRPC, imported where it is asked for.

1. :mod:`~assay.serving.grpc.messages` are the protocol's, without generated code.
2. :mod:`~assay.serving.grpc.tensors` turns them into rows and back.
3. :mod:`~assay.serving.grpc.server` answers them with the service's own prediction routes.
"""
