# The broker of the tests, as the public images are: a user 999 that owns /data, options as arguments.
ARG SGAPS_PYTHON_IMAGE
FROM ${SGAPS_PYTHON_IMAGE}
COPY valkey-server /usr/local/bin/
RUN install --directory --owner 999 --group 999 /data
WORKDIR /data
ENTRYPOINT ["valkey-server"]
