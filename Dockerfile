# One image for every role: the web is the default command, docker-compose.yml names the others.
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.txt /tmp/requirements.txt
RUN /opt/venv/bin/pip install -r /tmp/requirements.txt

FROM python:3.13-slim
# The user has a fixed number, so that files in a volume keep their owner over rebuilds.
RUN groupadd --gid 10001 taskservice \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin taskservice \
 && install -d -o taskservice -g taskservice /data /data/files /data/flower
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FILES_URL=/data/files \
    LISTEN_ADDRESS=0.0.0.0
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY . .
RUN python -m compileall -q /app
USER taskservice
VOLUME ["/data/files"]
EXPOSE 5000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/healthz', timeout=4)"]
# /dev/shm: gunicorn's heartbeat files must not wait for a disk.
CMD ["gunicorn", "app:app", "--worker-tmp-dir", "/dev/shm"]
