# docker build -f docker/cpu.Dockerfile -t keyframe . && docker run --rm -v "$PWD:/work" keyframe keyframe-extract holiday.mp4
FROM python:3.12-slim
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY keyframe keyframe
COPY conf conf
RUN python -m pip install --no-cache-dir --constraint constraints.txt '.[weights,onnx,sweep,shots]'
RUN useradd --create-home keyframe && mkdir /work && chown keyframe /work
USER keyframe
WORKDIR /work
CMD ["keyframe"]
