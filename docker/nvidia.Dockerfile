# hrtrack on an NVIDIA GPU, with PyTorch and TensorRT. Unproven: this file was linted, but no image has been
# built from it yet. The host needs NVIDIA's driver and the NVIDIA Container Toolkit.
#
#   docker build -f docker/nvidia.Dockerfile -t hrtrack:nvidia .
#   docker run --rm --gpus all -v "$PWD:/data" hrtrack:nvidia clip.mp4 --output out.mp4 --backend torch
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY hrtrack ./hrtrack
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=build /wheels /wheels
# PyTorch's and TensorRT's wheels bring the CUDA libraries; the driver comes from the host.
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[tensorrt,serve,parquet]" \
    && pip uninstall --yes opencv-python \
    && pip install --no-cache-dir opencv-python-headless==4.* \
    && rm -r /wheels \
    && useradd --create-home --uid 1000 hrtrack
# "video" lets FFmpeg decode on the GPU (--decode cuda).
ENV HRTRACK_CACHE=/home/hrtrack/cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 1000
WORKDIR /data
ENTRYPOINT ["hrtrack"]
CMD ["--help"]
