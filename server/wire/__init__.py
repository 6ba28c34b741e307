"""A gRPC server of one polling thread over grpcio's completion queue; knows nothing of what is served."""
