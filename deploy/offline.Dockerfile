# A base for the build stages with every wheel in it: images are then built without a network.
# The build context is a folder of wheels (docs/deployment.md).
ARG SGAPS_PYTHON_IMAGE=python:3.11-slim
FROM ${SGAPS_PYTHON_IMAGE}
COPY . /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
