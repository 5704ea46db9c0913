"""The Open Inference Protocol over gRPC, imported where it is asked for.

1. :mod:`~assay.serving.grpc.messages` are the protocol's, without generated code.
2. :mod:`~assay.serving.grpc.tensors` turns them into rows and back.
3. :mod:`~assay.serving.grpc.health` says whether predictions are answered, in gRPC's standard way.
4. :mod:`~assay.serving.grpc.server` answers them with the service's own prediction routes.
"""
