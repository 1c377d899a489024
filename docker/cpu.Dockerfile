# hrtrack on a CPU. Unproven: this file was linted, but no image has been built from it yet.
#
#   docker build -f docker/cpu.Dockerfile -t hrtrack .
#   docker run --rm -v "$PWD:/data" hrtrack clip.mp4 --output out.mp4
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY hrtrack ./hrtrack
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=build /wheels /wheels
# A container has no display: the headless OpenCV needs no system libraries.
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[serve,parquet]" \
    && pip uninstall --yes opencv-python \
    && pip install --no-cache-dir opencv-python-headless==4.* \
    && rm -r /wheels \
    && useradd --create-home --uid 1000 hrtrack
ENV HRTRACK_CACHE=/home/hrtrack/cache
USER 1000
WORKDIR /data
ENTRYPOINT ["hrtrack"]
CMD ["--help"]
