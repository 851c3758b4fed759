# The lab in an image, for who has no Python set up.
#
#   docker build -t micro-transformer .                             CPU
#   docker build --build-arg TORCH_INDEX= -t micro-transformer .    CUDA: PyPI's own wheel, several GB
#   docker run --rm micro-transformer                               the list of targets
#   docker run --rm --network none micro-transformer make test
#   docker run --rm --network none micro-transformer sh -c 'make train && make eval'
#   docker run --rm -e TASK=shakespeare micro-transformer make train    fetches its text first
#   docker run --rm --gpus all micro-transformer make train         where it was built for CUDA
#   docker run --rm -v lab-models:/lab/checkpoints -v lab-runs:/lab/outputs micro-transformer make train
#
#   docker build --target notebook -t micro-transformer:notebook .
#   docker run --rm -p 127.0.0.1:8888:8888 micro-transformer:notebook   open the address with the token
#
# 127.0.0.1: keeps the port off the network; Jupyter runs code for whoever has its token.

ARG BASE_IMAGE=python:3.12-slim


# Packages: made again when the lists of packages change, not when the code does.
FROM ${BASE_IMAGE} AS packages

# Not pinned: Debian's mirror drops old versions, so that a pin would stop building.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 lab \
    && install -d -o lab -g lab /lab
USER 1000:1000
WORKDIR /lab
ENV PATH=/lab/.venv/bin:${PATH} \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --chown=lab:lab requirements.txt ./
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --quiet \
       ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} -r requirements.txt

# The make targets' own stamps, so that no target installs anything when the image runs.
COPY --chown=lab:lab Makefile pyproject.toml ./
COPY --chown=lab:lab micro_transformer/__init__.py micro_transformer/
RUN make .venv/.ready .venv/.ready-dev


FROM packages AS jupyter
RUN .venv/bin/python -m pip install --quiet -c requirements.txt jupyterlab==4.6.6


# `docker build --target notebook`
FROM jupyter AS notebook
COPY --chown=lab:lab . .
ENV TASK=micro
RUN touch .venv/.ready .venv/.ready-dev \
    && make data/.micro \
    && mkdir -p checkpoints multirun outputs profile samples
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"]


# What `docker build` makes. The code, the task that needs no download, and folders for volumes.
FROM packages AS lab
COPY --chown=lab:lab . .
ENV TASK=micro
RUN touch .venv/.ready .venv/.ready-dev \
    && make data/.micro \
    && mkdir -p checkpoints multirun outputs profile samples
CMD ["make", "help"]
