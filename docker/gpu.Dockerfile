# docker build -f docker/gpu.Dockerfile -t keyframe-gpu .
# docker run --rm --gpus all --shm-size=8g -v "$PWD:/work" keyframe-gpu keyframe-train trainer=gpu experiment=demo
# torch's wheels bring CUDA along, so the image needs no CUDA of its own; the host needs NVIDIA's driver and container
# toolkit.
FROM python:3.12-slim
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
WORKDIR /src
# compile=true and torch's fused kernels need a C++ compiler
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY keyframe keyframe
COPY conf conf
RUN python -m pip install --no-cache-dir --constraint constraints.txt '.[weights,onnx,sweep,shots]'
RUN useradd --create-home keyframe && mkdir /work && chown keyframe /work
USER keyframe
WORKDIR /work
CMD ["keyframe"]
