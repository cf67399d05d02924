# The service's image with what s3:// needs, until requirements.txt has it.
FROM taskservice-test-service
USER root
RUN pip install --no-cache-dir s3fs==2026.9.0
USER taskservice
