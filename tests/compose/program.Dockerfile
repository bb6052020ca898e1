# One of Debian's programs as the public images have it: options as arguments, a data folder of its user.
ARG SGAPS_PYTHON_IMAGE
FROM ${SGAPS_PYTHON_IMAGE}
COPY program /usr/local/bin/
RUN install --directory --owner 65534 --group 65534 /prometheus
ENTRYPOINT ["program"]
